package structured

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"keyctl/internal/structured/structuredtest"
)

// client is a client library with a dataset.
func client(t interface {
	Helper()
	Fatal(...any)
}, f Format,
) *structuredtest.Dataset {
	t.Helper()
	data, err := json.Marshal(f.Record("sample", Permissions{Encrypt: true, Decrypt: true}))
	if err != nil {
		t.Fatal(err)
	}
	d, err := structuredtest.Read(data)
	if err != nil {
		t.Fatal(fmt.Sprintf("%v, of %s", err, data))
	}
	return d
}

// dataKey is the data key of a number.
func dataKey(number int) ([]byte, error) {
	key := sha256.Sum256(fmt.Append(nil, "data key ", number))
	return key[:], nil
}

// numbersOf is some numbers of data keys up to the highest, the first and the last among them.
func numbersOf(f Format) []int {
	highest := f.HighestKeyNumber()
	numbers := []int{0, min(1, highest), highest / 2, highest}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// roundTrip encrypts text under several data keys, checks that they are told apart, and decrypts it again. It returns the
// ciphertext under the first data key.
func roundTrip(t interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}, f Format, text string,
) string {
	t.Helper()
	d := client(t, f)
	seen := map[string]int{}
	first := ""
	for _, number := range numbersOf(f) {
		key, _ := dataKey(number)
		encrypted, err := d.Encrypt(text, number, key, nil)
		if err != nil {
			t.Fatalf("encrypting %q under key %d: %v", text, number, err)
		}
		if other, ok := seen[encrypted]; ok {
			t.Fatalf("%q is %q under the keys %d and %d", text, encrypted, other, number)
		}
		seen[encrypted] = number
		if number == 0 {
			first = encrypted
		}
		asked := -1
		decrypted, err := d.Decrypt(encrypted, func(n int) ([]byte, error) { asked = n; return dataKey(n) }, nil)
		if err != nil || decrypted != text || asked != number {
			t.Fatalf("%q under key %d is %q, which decrypts under key %d to %q, %v", text, number, encrypted, asked, decrypted, err)
		}
	}
	return first
}

// The shapes that the presets are for, as people would look at them.
func TestPresetRoundTrips(t *testing.T) {
	tests := map[string][]struct{ text, shape string }{ // in a shape, * is a character of the output set
		"ssn":            {{"123-45-6789", "***-**-****"}, {"123456789", "*********"}},
		"credit-card":    {{"4111 1111 1111 1234", "**** **** **** 1234"}, {"378282246310005", "***********0005"}},
		"phone":          {{"+49 (30) 1234-567", "+** (**) ****-***"}, {"555-0199", "***-****"}},
		"digits":         {{"000000", "******"}, {"31415926535897932384", "********************"}},
		"letters":        {{"Smith", "*****"}, {"Featherstonehaugh", "*****************"}},
		"alphanum":       {{"aB3dE6", "******"}},
		"alphanum-upper": {{"X7K2PQ", "******"}},
		"generic-string": {
			{"", strings.Repeat("*", 16)}, {"short", strings.Repeat("*", 16)}, {"größer, 世界 😀", strings.Repeat("*", 40)},
			{strings.Repeat("x", 635), strings.Repeat("*", 1016)},
		},
		"token": {{"", strings.Repeat("*", 64)}, {"  ", strings.Repeat("*", 64)}, {strings.Repeat("A", 40), strings.Repeat("*", 64)}},
	}
	for _, p := range Presets() {
		if p.Spec.DataType.numeric() {
			continue
		}
		if len(tests[p.Name]) == 0 {
			t.Errorf("there is no test for the preset %s", p.Name)
		}
		f := mustNew(t, p.Spec)
		for _, test := range tests[p.Name] {
			encrypted := []rune(roundTrip(t, f, test.text))
			for i, c := range encrypted {
				if strings.ContainsRune(f.OutputCharacterSet, c) && (i >= len(test.shape) || test.shape[i] == '*') {
					encrypted[i] = '*'
				}
			}
			if string(encrypted) != test.shape {
				t.Errorf("%s: the ciphertext of %q has the shape %q, want %q", p.Name, test.text, string(encrypted), test.shape)
			}
		}
	}
}

// What a description promises is the limit.
func TestPresetLimits(t *testing.T) {
	for name, text := range map[string]string{
		"ssn": "123-45-67890", "credit-card": "411111111234", "phone": "555-019", "digits": "12345", "letters": "Nemo",
		"alphanum": "aB3dE", "alphanum-upper": "X7K2P", "generic-string": strings.Repeat("x", 636), "token": strings.Repeat("x", 41),
	} {
		if got, err := client(t, fromPreset(t, name)).Encrypt(text, 0, make([]byte, 32), nil); err == nil {
			t.Errorf("%s takes %q for %q", name, text, got)
		}
	}
}

// Numbers of every size come back, under every data key, and their ciphertexts are numbers of the same size and sign.
func TestNumericRoundTrips(t *testing.T) {
	for name, values := range map[string][]int64{
		"integer32": {0, 1, -1, 42, -12312, 99999999, -99999999},
		"integer64": {0, 1, -1, 42, -12312, 9999999999999999, -9999999999999999},
	} {
		f := fromPreset(t, name)
		d := client(t, f)
		for _, value := range values {
			seen := map[int64]bool{}
			for number := range f.HighestKeyNumber() + 1 {
				key, _ := dataKey(number)
				encrypted, err := d.EncryptInt(value, number, key, nil)
				if err != nil {
					t.Fatalf("%s: encrypting %d under key %d: %v", name, value, number, err)
				}
				if seen[encrypted] || (encrypted < 0) != (value < 0) && value != 0 {
					t.Errorf("%s: %d under key %d is %d, as under another key or of another sign", name, value, number, encrypted)
				}
				seen[encrypted] = true
				if decrypted, err := d.DecryptInt(encrypted, dataKey, nil); err != nil || decrypted != value {
					t.Errorf("%s: %d under key %d is %d, which decrypts to %d, %v", name, value, number, encrypted, decrypted, err)
				}
			}
		}
		beyond := f.DataTypeConfig.MaxInt + 1
		if got, err := d.EncryptInt(beyond, 0, make([]byte, 32), nil); err == nil {
			t.Errorf("%s takes %d for %d", name, beyond, got)
		}
	}
}

func TestTimeRoundTrips(t *testing.T) {
	day := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	for name, values := range map[string][]time.Time{
		"date": {day(1, 1, 1), day(1653, 2, 10), day(1969, 12, 31), day(2000, 2, 29), day(2738, 11, 28)},
		"datetime": {
			day(1970, 1, 1), time.Date(1969, 12, 30, 15, 0, 0, 0, time.UTC), time.Date(2001, 1, 10, 3, 4, 5, 0, time.UTC),
			time.Date(1653, 2, 10, 6, 13, 21, 0, time.UTC), time.Date(2286, 11, 20, 17, 46, 39, 0, time.UTC),
		},
	} {
		f := fromPreset(t, name)
		d := client(t, f)
		for _, value := range values {
			for number := range f.HighestKeyNumber() + 1 {
				key, _ := dataKey(number)
				encrypted, err := d.EncryptTime(value, number, key, nil)
				if err != nil {
					t.Fatalf("%s: encrypting %v under key %d: %v", name, value, number, err)
				}
				if decrypted, err := d.DecryptTime(encrypted, dataKey, nil); err != nil || !decrypted.Equal(value) {
					t.Errorf("%s: %v under key %d is %v, which decrypts to %v, %v", name, value, number, encrypted, decrypted, err)
				}
			}
		}
		unit := time.Second
		if f.DataType == Date {
			unit = 24 * time.Hour
		}
		for _, value := range []time.Time{f.DataTypeConfig.MinTime.Add(-unit), f.DataTypeConfig.MaxTime.Add(unit)} {
			if got, err := d.EncryptTime(value, 0, make([]byte, 32), nil); err == nil {
				t.Errorf("%s takes %v for %v", name, value, got)
			}
		}
	}
}

// Whatever New makes, a client can work with: any characters, lengths and rules in any order.
func TestAnyFormatRoundTrips(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := anySets(rt)
		kept := []rune("-/ ÄΩ\u0416")
		rules := rapid.Permutation([]Rule{
			{Type: KeepCharacters, Characters: string(kept)},
			{Type: KeepPrefix, Length: rapid.IntRange(1, 5).Draw(rt, "prefix")},
			{Type: KeepSuffix, Length: rapid.IntRange(1, 5).Draw(rt, "suffix")},
		}).Draw(rt, "rules")
		spec.PassthroughRules = rules[:rapid.IntRange(0, len(rules)).Draw(rt, "so many rules")]
		f := mustNew(rt, spec)
		in := []rune(f.InputCharacterSet)
		length := rapid.IntRange(f.MinInputLength, min(f.MinInputLength+10, f.MaxInputLength)).Draw(rt, "length")
		text := rapid.SliceOfN(rapid.SampledFrom(in), length, length).Draw(rt, "text")
		anything := rapid.SampledFrom(append(slices.Clone(kept), in[0], in[1], 'x'))
		// What the rules take out is put in, the last rule to be applied first.
		for _, rule := range slices.Backward(f.PassthroughRules) {
			switch rule.Type {
			case KeepPrefix:
				text = slices.Concat(rapid.SliceOfN(anythingBut(f, rule, anything), rule.Length, rule.Length).Draw(rt, "kept prefix"), text)
			case KeepSuffix:
				text = slices.Concat(text, rapid.SliceOfN(anythingBut(f, rule, anything), rule.Length, rule.Length).Draw(rt, "kept suffix"))
			case KeepCharacters:
				for range rapid.IntRange(0, 4).Draw(rt, "characters kept") {
					at := rapid.IntRange(0, len(text)).Draw(rt, "at")
					text = slices.Insert(text, at, rapid.SampledFrom(kept).Draw(rt, "character kept"))
				}
			}
		}
		encrypted := roundTrip(rt, f, string(text))
		if utf8.RuneCountInString(encrypted) != len(text) {
			rt.Fatalf("%q is %q, of another length", string(text), encrypted)
		}
	})
}

// anythingBut leaves out of a prefix or suffix what an earlier rule has taken out of the text already.
func anythingBut(f Format, rule Rule, anything *rapid.Generator[rune]) *rapid.Generator[rune] {
	if keep, ok := f.PassthroughRules.of(KeepCharacters); ok && keep.Priority < rule.Priority {
		return anything.Filter(func(c rune) bool { return !strings.ContainsRune(keep.Characters, c) })
	}
	return anything
}

// A library that pads and encodes gives back any text that fits.
func TestAnyTextRoundTrips(t *testing.T) {
	for _, spec := range []Spec{
		{DataType: Token},
		{DataType: Token, MinInputLength: 128, PassthroughRules: []Rule{{Type: KeepPrefix, Length: 1}}},
		{DataType: GenericString, InputEncoding: Base32},
		{DataType: GenericString, InputEncoding: Base64, InputPadCharacter: "~"},
		{DataType: GenericString, InputEncoding: Base64, PassthroughRules: []Rule{{Type: KeepSuffix, Length: 2}}},
		{DataType: GenericString, InputCharacterSet: "!" + digits + lowerLetters, OutputCharacterSet: alphanumeric, InputPadCharacter: "!", MinInputLength: 15},
	} {
		f := mustNew(t, spec)
		kept := 0
		for _, rule := range f.PassthroughRules {
			kept += rule.Length
		}
		rapid.Check(t, func(rt *rapid.T) {
			text := rapid.StringN(kept, 9, 36)
			if f.InputEncoding == NoEncoding {
				text = rapid.StringMatching(`[0-9a-z]{0,20}`)
			}
			roundTrip(rt, f, text.Draw(rt, "text"))
		})
	}
}

// A caller's own tweak goes in the place of the dataset's, and gives another ciphertext.
func TestCallersTweak(t *testing.T) {
	f := fromPreset(t, "ssn")
	d := client(t, f)
	key, _ := dataKey(0)
	own, err := d.Encrypt("123-45-6789", 0, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	same, err := d.Encrypt("123-45-6789", 0, key, f.Tweak)
	if err != nil || same != own {
		t.Errorf("with the dataset's tweak given: %q, %v; want %q", same, err, own)
	}
	tweak := []byte("another tweak")
	other, err := d.Encrypt("123-45-6789", 0, key, tweak)
	if err != nil || other == own {
		t.Errorf("with another tweak: %q, %v; want anything but %q", other, err, own)
	}
	if got, err := d.Decrypt(other, dataKey, tweak); err != nil || got != "123-45-6789" {
		t.Errorf("decrypted to %q, %v", got, err)
	}
}
