package access

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
)

func TestR6_RFC6238Vectors(t *testing.T) {
	var file struct {
		Seed    string
		Digits  otp.Digits
		Vectors []struct {
			Time time.Time
			Step string
			Code string
		}
	}
	readVectors(t, "testdata/vectors/rfc6238.json", &file)
	seed := mustSeed(t, file.Seed)
	for _, v := range file.Vectors {
		step := StepAt(v.Time)
		if got := fmt.Sprintf("%016X", step); got != v.Step {
			t.Errorf("StepAt(%v) = %s, want %s", v.Time, got, v.Step)
		}
		if got := generate(seed.Base32(), step, file.Digits); got != v.Code {
			t.Errorf("code at %v = %s, want %s", v.Time, got, v.Code)
		}
		// Fewer digits are the last ones of more (RFC 4226 section 5.3).
		short := v.Code[len(v.Code)-Digits:]
		if got := CodeAt(seed, step).Reveal(); got != short {
			t.Errorf("CodeAt(%d) = %s, want %s", step, got, short)
		}
		if got, ok := Match(seed, mustCode(t, short), v.Time); !ok || got != step {
			t.Errorf("Match(%s, %v) = %d, %v, want %d", short, v.Time, got, ok, step)
		}
	}
}

func TestR6_RFC4226Vectors(t *testing.T) {
	var file struct {
		Seed    string
		Digits  otp.Digits
		Vectors []struct {
			Counter int64
			Code    string
		}
	}
	readVectors(t, "testdata/vectors/rfc4226.json", &file)
	if file.Digits != Digits {
		t.Fatalf("vectors of %d digits, want %d", file.Digits, Digits)
	}
	for _, v := range file.Vectors {
		if got := CodeAt(mustSeed(t, file.Seed), v.Counter).Reveal(); got != v.Code {
			t.Errorf("CodeAt(%d) = %s, want %s", v.Counter, got, v.Code)
		}
	}
}

// TestCodesAgreeWithOathtool compares with an implementation that shares no code with ours.
func TestCodesAgreeWithOathtool(t *testing.T) {
	path, err := exec.LookPath("oathtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("oathtool is not installed, and CI must have it")
		}
		t.Skip("oathtool is not installed")
	}
	source := rand.NewChaCha8([32]byte{1})
	for range 20 {
		seed, err := DrawSeed(source)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(int64(source.Uint64()%(1<<33)), 0).UTC()
		out, err := exec.Command(path, "--totp=sha1", "--now", now.Format("2006-01-02 15:04:05 UTC"),
			hex.EncodeToString([]byte(seed.Reveal()))).Output()
		if err != nil {
			t.Fatalf("oathtool at %v: %v", now, err)
		}
		if got, want := CodeAt(seed, StepAt(now)).Reveal(), strings.TrimSpace(string(out)); got != want {
			t.Errorf("code at %v = %s, oathtool says %s", now, got, want)
		}
	}
}

func readVectors(t testing.TB, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
