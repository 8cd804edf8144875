package access

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// testSeed is the seed of the vectors in both RFCs.
const testSeed = "12345678901234567890"

func TestStepAtAndSecondsLeft(t *testing.T) {
	tests := []struct {
		micros int64 // since 1970
		step   int64
		left   int
	}{
		{0, 0, 30},
		{1, 0, 30},
		{999_999, 0, 30},
		{1_000_000, 0, 29},
		{29_000_000, 0, 1},
		{29_999_999, 0, 1},
		{30_000_000, 1, 30},
		{59_999_999, 1, 1},
		{-1, -1, 1},
		{-30_000_000, -1, 30},
		{-30_000_001, -2, 1},
		{1 << 31 * 1_000_000, 71582788, 22}, // 2038
		{253402300799_999_999, 8446743359, 1},
	}
	for _, test := range tests {
		now := time.UnixMicro(test.micros).In(time.FixedZone("east", 20700))
		if got := StepAt(now); got != test.step {
			t.Errorf("StepAt(%v) = %d, want %d", now, got, test.step)
		}
		if got := SecondsLeft(now); got != test.left {
			t.Errorf("SecondsLeft(%v) = %d, want %d", now, got, test.left)
		}
	}
}

// TestR14_MatchWindow walks the codes of seven steps over times at and one microsecond around every step boundary. The
// outcome depends on the time given and on nothing else.
func TestR14_MatchWindow(t *testing.T) {
	const first, last = int64(59_000_000), int64(59_000_006)
	seed := mustSeed(t, testSeed)
	matches := 0
	for step := first; step <= last; step++ {
		code := CodeAt(seed, step)
		for boundary := first - 2; boundary <= last+3; boundary++ {
			for _, offset := range []int64{-1, 0, 1, 15_000_000} {
				micros := boundary*30_000_000 + offset
				// One step early is right from 30 s before the step begins, one late until 30 s after it ended.
				want := micros >= (step-1)*30_000_000 && micros < (step+2)*30_000_000
				got, ok := Match(seed, code, time.UnixMicro(micros))
				if ok != want || (ok && got != step) || (!ok && got != 0) {
					t.Errorf("Match(code of %d, %d µs) = %d, %v, want %v", step, micros, got, ok, want)
				}
				if ok {
					matches++
				}
			}
		}
	}
	if want := 7 * 3 * 4; matches != want {
		t.Errorf("%d matches in all, want %d", matches, want)
	}
}

// TestMatchTakesTheNewest uses steps of the test seed that share a code by chance, found by search: of several steps the
// newest is the one that no earlier use can have spent.
func TestMatchTakesTheNewest(t *testing.T) {
	tests := []struct {
		older, newer int64
		now, want    int64 // as steps
	}{
		{910737, 910738, 910736, 910737}, // the newer one is out of the window
		{910737, 910738, 910737, 910738},
		{910737, 910738, 910738, 910738},
		{910737, 910738, 910739, 910738}, // the older one is
		{153567, 153569, 153567, 153567},
		{153567, 153569, 153568, 153569}, // both ends of the window
		{153567, 153569, 153569, 153569},
	}
	seed := mustSeed(t, testSeed)
	for _, test := range tests {
		code := CodeAt(seed, test.older)
		if !code.Equal(CodeAt(seed, test.newer).Secret) {
			t.Fatalf("steps %d and %d do not share a code", test.older, test.newer)
		}
		if got, ok := Match(seed, code, time.Unix(test.now*30, 0)); !ok || got != test.want {
			t.Errorf("Match at step %d of the code of %d and %d = %d, %v, want %d",
				test.now, test.older, test.newer, got, ok, test.want)
		}
	}
}

func TestMatchRefusesTheEmpty(t *testing.T) {
	now := time.Unix(1_234_567_890, 0)
	seed := mustSeed(t, testSeed)
	short := Seed{credential.NewSecret(testSeed[1:])}
	tests := []struct {
		name string
		seed Seed
		code Code
	}{
		{"no code", seed, Code{}},
		{"no seed", Seed{}, CodeAt(Seed{}, StepAt(now))},
		{"short seed", short, CodeAt(short, StepAt(now))},
		{"code of eight digits", seed, Code{credential.NewSecret("89005924")}},
		{"part of a code", seed, Code{credential.NewSecret("00592")}},
	}
	for _, test := range tests {
		if step, ok := Match(test.seed, test.code, now); ok || step != 0 {
			t.Errorf("%s: Match = %d, %v, want 0, false", test.name, step, ok)
		}
	}
}

func TestParseCode(t *testing.T) {
	tests := []struct {
		text, want string
		code       fault.Code
	}{
		{"287082", "287082", ""},
		{"000000", "000000", ""},
		{"287 082", "287082", ""},
		{" 2 8 7\t082\t", "287082", ""},
		{"", "", fault.OTPRequired},
		{" \t ", "", fault.OTPRequired},
		{"28708", "", fault.OTPWrong},
		{"2870822", "", fault.OTPWrong},
		{"287082\n", "", fault.OTPWrong},
		{"287082\r", "", fault.OTPWrong},
		{"\n", "", fault.OTPWrong},
		{"287\u00a0082", "", fault.OTPWrong}, // a no-break space
		{"287\u2009082", "", fault.OTPWrong}, // a thin space
		{"287-082", "", fault.OTPWrong},
		{"+87082", "", fault.OTPWrong},
		{"-87082", "", fault.OTPWrong},
		{"0x7082", "", fault.OTPWrong},
		{"28708a", "", fault.OTPWrong},
		{"28708\x00", "", fault.OTPWrong},
		{"２８７０８２", "", fault.OTPWrong}, // fullwidth digits
		{"28708２", "", fault.OTPWrong},
		{"２８", "", fault.OTPWrong}, // six bytes
		{"٢٨", "", fault.OTPWrong},
		{strings.Repeat("1", 1<<16), "", fault.OTPWrong},
	}
	for _, test := range tests {
		got, err := ParseCode(test.text)
		if got.Reveal() != test.want || fault.CodeOf(err) != test.code {
			t.Errorf("ParseCode(%.20q) = %q, %v, want %q, code %q", test.text, got.Reveal(), err, test.want, test.code)
		}
	}
}

// TestR11_BlanksMakeNoSecondCode shows that all spellings of a code lead to the same step, which is what is remembered.
func TestR11_BlanksMakeNoSecondCode(t *testing.T) {
	seed, now := mustSeed(t, testSeed), time.Unix(59, 0)
	for _, text := range []string{"287082", "287 082", " 287082 ", "2 8 7 0 8 2", "\t287082"} {
		if step, ok := Match(seed, mustCode(t, text), now); !ok || step != 1 {
			t.Errorf("Match(%q) = %d, %v, want 1", text, step, ok)
		}
	}
}

func TestR2_ErrorsDoNotRepeatCodes(t *testing.T) {
	for _, text := range []string{"2870822", "TESTTEST", "TEST-TEST-TEST"} {
		_, codeErr := ParseCode(text)
		_, recoveryErr := ParseRecoveryCode(text)
		for _, err := range []error{codeErr, recoveryErr} {
			e := fault.From(err)
			if e == nil || e.Hint == "" || strings.Contains(e.Message+e.Hint, text) {
				t.Errorf("error for %q = %#v, want one with a hint that does not repeat it", text, e)
			}
		}
	}
}

func TestR2_SeedAndCodeMaskThemselves(t *testing.T) {
	seed := mustSeed(t, testSeed)
	code := mustCode(t, "287082")
	for _, value := range []any{seed, &seed, code, &code, []Seed{seed}, []Code{code}, struct{ S Seed }{seed}} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "value", value)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "value", value)
		if err := json.NewEncoder(&out).Encode(value); err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{testSeed, "287082"} {
			inHex := hex.EncodeToString([]byte(secret))
			for _, form := range []string{secret, inHex, strings.ToUpper(inHex), "[49 50 51"} {
				if strings.Contains(out.String(), form) {
					t.Errorf("%T printed %q:\n%s", value, form, out.String())
				}
			}
		}
	}
}

func TestDrawSeed(t *testing.T) {
	seed, err := DrawSeed(strings.NewReader(testSeed + "and more"))
	if err != nil || seed.Reveal() != testSeed {
		t.Errorf("DrawSeed = %q, %v, want the first %d bytes", seed.Reveal(), err, SeedSize)
	}
	if got, want := seed.Base32().Reveal(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"; got != want {
		t.Errorf("Base32() = %s, want %s", got, want)
	}
	broken := errors.New("no entropy")
	if seed, err := DrawSeed(iotest.ErrReader(broken)); !errors.Is(err, broken) || !seed.IsZero() {
		t.Errorf("DrawSeed from a broken source = %v, want its error", err)
	}
	if seed, err := DrawSeed(strings.NewReader(testSeed[1:])); err == nil || !seed.IsZero() {
		t.Error("DrawSeed from 19 bytes succeeded, want an error")
	}
}

func TestSeedFromBytes(t *testing.T) {
	raw := []byte(testSeed)
	seed, err := SeedFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if seed.Reveal() != testSeed {
		t.Error("the seed changed with the bytes it was made from")
	}
	for _, length := range []int{0, 1, 19, 21, 32} {
		if _, err := SeedFromBytes(make([]byte, length)); !fault.Is(err, fault.StoreDamaged) {
			t.Errorf("SeedFromBytes of %d bytes: %v, want code %q", length, err, fault.StoreDamaged)
		}
	}
}

func TestURI(t *testing.T) {
	const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	tests := []struct{ issuer, account, label, issuerParam string }{
		{"keyctl", "alice", "keyctl:alice", "keyctl"},
		{"keyctl", "alice@example.com", "keyctl:alice%40example.com", "keyctl"},
		{"Big Corp", "a b+c", "Big%20Corp:a%20b%2Bc", "Big%20Corp"},
		{"a&b=c", "d/e?f#g", "a%26b%3Dc:d%2Fe%3Ff%23g", "a%26b%3Dc"},
		{"100%", `DOMAIN\Jürgen`, "100%25:DOMAIN%5CJ%C3%BCrgen", "100%25"},
		{"store:1", "x:y", "store%3A1:x%3Ay", "store%3A1"},
	}
	for _, test := range tests {
		uri := mustSeed(t, testSeed).URI(test.issuer, test.account)
		want := "otpauth://totp/" + test.label + "?secret=" + secret + "&issuer=" + test.issuerParam +
			"&algorithm=SHA1&digits=6&period=30"
		if got := uri.Reveal(); got != want {
			t.Errorf("URI(%q, %q) = %s, want %s", test.issuer, test.account, got, want)
		}
		parsed, err := url.Parse(uri.Reveal())
		if err != nil {
			t.Errorf("URI(%q, %q) does not parse: %v", test.issuer, test.account, err)
			continue
		}
		if got, want := parsed.Path, "/"+test.issuer+":"+test.account; got != want {
			t.Errorf("label of URI(%q, %q) reads as %q, want %q", test.issuer, test.account, got, want)
		}
		if got := parsed.Query().Get("issuer"); got != test.issuer {
			t.Errorf("issuer of URI(%q, %q) reads as %q", test.issuer, test.account, got)
		}
	}
	if got := fmt.Sprint(mustSeed(t, testSeed).URI("keyctl", "alice")); strings.Contains(got, secret) {
		t.Errorf("a URI printed its secret: %s", got)
	}
}

func FuzzParseCode(f *testing.F) {
	for _, text := range []string{"", "287082", " 287 082 ", "287082\n", "２８７０８２", "28708", "2870822", "+87082", "\t"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		code, err := ParseCode(text)
		switch fault.CodeOf(err) {
		case "":
			n, numErr := strconv.ParseUint(code.Reveal(), 10, 32)
			if numErr != nil || fmt.Sprintf("%06d", n) != code.Reveal() {
				t.Fatalf("ParseCode(%q) = %q, which is not six digits", text, code.Reveal())
			}
			isBlank := func(r rune) bool { return r == ' ' || r == '\t' }
			if kept := strings.Join(strings.FieldsFunc(text, isBlank), ""); kept != code.Reveal() {
				t.Fatalf("ParseCode(%q) = %q, want %q", text, code.Reveal(), kept)
			}
		case fault.OTPRequired:
			if strings.Trim(text, " \t") != "" {
				t.Fatalf("ParseCode(%q) says that nothing was given", text)
			}
		case fault.OTPWrong:
			if !code.IsZero() {
				t.Fatalf("ParseCode(%q) returned a code with an error", text)
			}
		default:
			t.Fatalf("ParseCode(%q) error = %v", text, err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	seed, now := mustSeed(b, testSeed), time.Unix(1_234_567_890, 0)
	right, wrong := CodeAt(seed, StepAt(now)), mustCode(b, "000001")
	for name, code := range map[string]Code{"right": right, "wrong": wrong} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Match(seed, code, now)
			}
		})
	}
}

func mustSeed(t testing.TB, raw string) Seed {
	t.Helper()
	seed, err := SeedFromBytes([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

func mustCode(t testing.TB, text string) Code {
	t.Helper()
	code, err := ParseCode(text)
	if err != nil {
		t.Fatalf("ParseCode(%q): %v", text, err)
	}
	return code
}
