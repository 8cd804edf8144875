package structured

import (
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
)

func fromPreset(t *testing.T, name string) Format {
	t.Helper()
	p, err := PresetNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return mustNew(t, p.Spec)
}

// Every preset is complete, can be rotated, and is described in one line; portable ones come first.
func TestPresets(t *testing.T) {
	portable, seen := true, map[string]bool{}
	for _, p := range Presets() {
		if seen[p.Name] || !regexp.MustCompile(`^[a-z][a-z0-9-]*$`).MatchString(p.Name) {
			t.Errorf("a preset is called %q", p.Name)
		}
		seen[p.Name] = true
		if p.About == "" || len(p.About) > 90 || strings.ContainsAny(p.About, "\n\t") || strings.HasSuffix(p.About, ".") {
			t.Errorf("%s is described by %q", p.Name, p.About)
		}
		if highest := mustNew(t, p.Spec).HighestKeyNumber(); highest < 2 {
			t.Errorf("%s has the highest key number %d", p.Name, highest)
		}
		plain := p.Spec.DataType == "" || p.Spec.DataType == FormattedString
		if plain && !portable {
			t.Errorf("%s is portable and stands behind one that is not", p.Name)
		}
		portable = plain
		if got, err := PresetNamed(p.Name); err != nil || got.About != p.About {
			t.Errorf("PresetNamed(%q) = %v, %v", p.Name, got, err)
		}
	}
	_, err := PresetNamed("SSN")
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.From(err).Hint, "ssn, credit-card, ") {
		t.Errorf("PresetNamed of an unknown name: %v", err)
	}
}

// A preset that a caller changes is whole again for the next one.
func TestPresetsAreMadeAnew(t *testing.T) {
	Presets()[0].Spec.PassthroughRules[0].Characters = "changed"
	if got := Presets()[0].Spec.PassthroughRules[0].Characters; got != "-" {
		t.Errorf("a preset was changed to %q for all", got)
	}
}

// The descriptions of dates say how far values and ciphertexts reach.
func TestPresetYears(t *testing.T) {
	for name, want := range map[string][4]int{"date": {1, 2738, 1, 8628}, "datetime": {1653, 2286, 18, 3921}} {
		f := fromPreset(t, name)
		s, n := radix(f.OutputCharacterSet), f.MinInputLength
		reach := new(big.Int).Mul(big.NewInt(int64(f.HighestKeyNumber()<<f.MSBEncodingBits)), power(s, n-1))
		farthest := reach.Add(reach, largestNumber(radix(digits), n)).Int64()
		if f.DataType == Date {
			farthest *= secondsPerDay
		}
		earliest := f.DataTypeConfig.Epoch
		if f.DataTypeConfig.MinTime.Before(earliest) {
			earliest = time.Unix(earliest.Unix()-farthest, 0).UTC()
		}
		latest := time.Unix(f.DataTypeConfig.Epoch.Unix()+farthest, 0).UTC()
		got := [4]int{f.DataTypeConfig.MinTime.Year(), f.DataTypeConfig.MaxTime.Year(), earliest.Year(), latest.Year()}
		if got != want {
			t.Errorf("%s: values of the years %d to %d and ciphertexts of %d to %d, want %v", name, got[0], got[1], got[2], got[3], want)
		}
	}
}
