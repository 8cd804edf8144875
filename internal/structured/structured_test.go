package structured

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
)

// counted gives 0, 1, 2 and so on for random bytes.
func counted() io.Reader {
	data := make([]byte, 2*drawnBytes)
	for i := range data {
		data[i] = byte(i)
	}
	return bytes.NewReader(data)
}

func mustNew(t interface {
	Helper()
	Fatal(...any)
}, spec Spec,
) Format {
	t.Helper()
	f, err := New(spec, counted())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What client libraries receive, byte for byte.
func TestRecordJSON(t *testing.T) {
	const drawn = `"tweak_source":"constant","tweak":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","tweak_min_len":6,"tweak_max_len":32,` +
		`"salt":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",`
	const head = `"fpe_definable_type":"EfpeDefinition","encryption_algorithm":"FF1",`
	day := time.Date(1900, 1, 1, 0, 0, 0, 0, time.FixedZone("elsewhere", 0))
	tests := map[string]struct {
		spec Spec
		want string
	}{
		"no-rules": {
			Spec{InputCharacterSet: digits, OutputCharacterSet: alphanumeric},
			`{"name":"no-rules","data_type":"formatted_string","data_type_config":null,` + head +
				`"input_character_set":"0123456789","output_character_set":"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",` +
				`"passthrough":"","passthrough_rules":[],"min_input_length":6,"max_input_length":255,"msb_encoding_bits":0,` + drawn +
				`"input_encoding":null,"input_pad_character":null,"permissions":{"encrypt":true,"decrypt":false}}`,
		},
		"all-rules": {
			Spec{
				InputCharacterSet: digits, OutputCharacterSet: numerals[:12], MinInputLength: 6, MaxInputLength: 20,
				PassthroughRules: []Rule{
					{Type: KeepSuffix, Length: 4, Priority: 3},
					{Type: KeepCharacters, Characters: "-ä", Priority: 1}, {Type: KeepPrefix, Length: 2, Priority: 2},
				},
			},
			`{"name":"all-rules","data_type":"formatted_string","data_type_config":null,` + head +
				`"input_character_set":"0123456789","output_character_set":"0123456789AB",` +
				`"passthrough":"-ä","passthrough_rules":[{"type":"suffix","value":4,"priority":3},` +
				`{"type":"passthrough","value":"-ä","priority":1},{"type":"prefix","value":2,"priority":2}],` +
				`"min_input_length":6,"max_input_length":20,"msb_encoding_bits":3,` + drawn +
				`"input_encoding":null,"input_pad_character":null,"permissions":{"encrypt":true,"decrypt":false}}`,
		},
		"token": {
			Spec{DataType: Token},
			`{"name":"token","data_type":"token","data_type_config":null,` + head +
				`"input_character_set":"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567=_","output_character_set":"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",` +
				`"passthrough":"","passthrough_rules":[],"min_input_length":64,"max_input_length":64,"msb_encoding_bits":0,` + drawn +
				`"input_encoding":"base32","input_pad_character":"_","permissions":{"encrypt":true,"decrypt":false}}`,
		},
		"integer": {
			Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 64, MinInt: new(int64)}},
			`{"name":"integer","data_type":"integer","data_type_config":{"size":64,"min_input_int_value":0,"max_input_int_value":9999999999999999,` +
				`"min_input_int_value_as_string":"0","max_input_int_value_as_string":"9999999999999999"},` + head +
				`"input_character_set":"0123456789","output_character_set":"0123456789ABCD",` +
				`"passthrough":"-","passthrough_rules":[{"type":"passthrough","value":"-","priority":1}],` +
				`"min_input_length":16,"max_input_length":16,"msb_encoding_bits":0,` + drawn +
				`"input_encoding":null,"input_pad_character":null,"permissions":{"encrypt":true,"decrypt":false}}`,
		},
		"date": {
			Spec{DataType: Date, DataTypeConfig: ConfigSpec{MinTime: &day}},
			`{"name":"date","data_type":"date","data_type_config":{"epoch":"0001-01-01T00:00:00Z","min_input_date_value":"1900-01-01T00:00:00Z",` +
				`"max_input_date_value":"2738-11-28T00:00:00Z"},` + head +
				`"input_character_set":"0123456789","output_character_set":"0123456789ABCD",` +
				`"passthrough":"-","passthrough_rules":[{"type":"passthrough","value":"-","priority":1}],` +
				`"min_input_length":6,"max_input_length":6,"msb_encoding_bits":1,` + drawn +
				`"input_encoding":null,"input_pad_character":null,"permissions":{"encrypt":true,"decrypt":false}}`,
		},
	}
	for name, test := range tests {
		got, err := json.Marshal(mustNew(t, test.spec).Record(name, Permissions{Encrypt: true}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A format that is stored as JSON is the same afterwards.
func TestFormatIsReadBack(t *testing.T) {
	for _, p := range Presets() {
		f := mustNew(t, p.Spec)
		data, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var got Format
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		if diff := cmp.Diff(f, got); diff != "" {
			t.Errorf("%s (-made +read):\n%s", p.Name, diff)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: what was read back is refused: %v", p.Name, err)
		}
	}
}

// So is a spec, on its way to whoever draws the tweak.
func TestSpecIsReadBack(t *testing.T) {
	for _, p := range Presets() {
		data, err := json.Marshal(p.Spec)
		if err != nil {
			t.Fatal(err)
		}
		var got Spec
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		if diff := cmp.Diff(mustNew(t, p.Spec), mustNew(t, got)); diff != "" {
			t.Errorf("%s (-made +read):\n%s", p.Name, diff)
		}
	}
}

func TestConfigThatContradictsItself(t *testing.T) {
	for _, data := range []string{
		`{"size":32,"min_input_int_value":0,"max_input_int_value":9,"min_input_int_value_as_string":"0","max_input_int_value_as_string":"99"}`,
		`{"size":32,"epoch":"1970-01-01T00:00:00Z"}`, `{}`, `{"epoch":"1970-01-01T00:00:00Z","min_input_date_value":"yesterday"}`,
	} {
		if err := json.Unmarshal([]byte(data), new(Config)); err == nil {
			t.Errorf("%s was read", data)
		}
	}
}

// What is given stays, and what is not is drawn: the tweak first.
func TestTweakAndSalt(t *testing.T) {
	spec := Spec{InputCharacterSet: digits, OutputCharacterSet: alphanumeric}
	drawn := mustNew(t, spec)
	if len(drawn.Tweak) != 32 || len(drawn.Salt) != 32 || drawn.Tweak[0] != 0 || drawn.Salt[0] != 32 {
		t.Errorf("drew the tweak %x and the salt %x", drawn.Tweak, drawn.Salt)
	}
	spec.Tweak, spec.Salt = []byte("seven b"), bytes.Repeat([]byte{7}, 32)
	if f := mustNew(t, spec); string(f.Tweak) != "seven b" || !bytes.Equal(f.Salt, spec.Salt) {
		t.Errorf("made the tweak %x and the salt %x of others", f.Tweak, f.Salt)
	}
	spec.Tweak = nil
	_, err := New(spec, strings.NewReader("too short"))
	if !errors.Is(err, io.ErrUnexpectedEOF) || fault.Is(err, fault.Invalid) {
		t.Errorf("with too little randomness: %v", err)
	}
}

// Every rule of Validate, by what breaks it alone.
func TestRefusals(t *testing.T) {
	plain := func() Spec { return Spec{InputCharacterSet: digits, OutputCharacterSet: alphanumeric} }
	with := func(change func(*Spec)) Spec { s := plain(); change(&s); return s }
	rules := func(r ...Rule) Spec { return with(func(s *Spec) { s.PassthroughRules = r }) }
	keep := func(characters string) Rule { return Rule{Type: KeepCharacters, Characters: characters} }
	at := func(y, mo, d, h int) *time.Time {
		m := time.Date(y, time.Month(mo), d, h, 0, 0, 0, time.UTC)
		return &m
	}
	number := func(n int64) *int64 { return &n }
	bits := func(n int) *int { return &n }

	tests := []struct {
		name string
		spec Spec
		want string // in the message
		hint string // in the hint
	}{
		{"data type", Spec{DataType: "blob"}, `no data type "blob"`, "formatted_string, generic_string, token, integer, date and datetime"},
		{"nothing", Spec{}, "input_character_set is missing", "0123456789"},
		{"no output", Spec{InputCharacterSet: digits}, "output_character_set is missing", "0123456789"},
		{"twice", with(func(s *Spec) { s.InputCharacterSet = "0123401" }), `input_character_set has '0' twice`, "take one"},
		{"twice in output", with(func(s *Spec) { s.OutputCharacterSet += "z" }), `output_character_set has 'z' twice`, "take one"},
		{"one character", with(func(s *Spec) { s.InputCharacterSet = "0" }), "no secret", "at least two"},
		{"emoji", with(func(s *Spec) { s.OutputCharacterSet += "\U0001F600" }), "U+1F600", "up to U+FFFF"},
		{"control", with(func(s *Spec) { s.InputCharacterSet += "\n" }), "U+000A", "take it out"},
		{"escape", with(func(s *Spec) { s.InputCharacterSet += "\x1b" }), "U+001B", "take it out"},
		{"joiner", with(func(s *Spec) { s.InputCharacterSet += "\u200d" }), "U+200D", "take it out"},
		{"byte order mark", with(func(s *Spec) { s.OutputCharacterSet += "\ufeff" }), "U+FEFF", "take it out"},
		{"line separator", with(func(s *Spec) { s.OutputCharacterSet += "\u2028" }), "U+2028", "take it out"},
		{"noncharacter", with(func(s *Spec) { s.OutputCharacterSet += "\uffff" }), "U+FFFF", "take it out"},
		{"replacement", with(func(s *Spec) { s.OutputCharacterSet += "\ufffd" }), "U+FFFD", "take it out"},
		{"surrogate", with(func(s *Spec) { s.OutputCharacterSet += "\xed\xa0\x80" }), "not UTF-8", "UTF-8"},
		{"same sets", with(func(s *Spec) { s.OutputCharacterSet = digits }), "has 10 characters, and input_character_set has 10", "more than the input"},
		{"smaller output", with(func(s *Spec) { s.OutputCharacterSet = "abc" }), "has 3 characters", "more than the input"},

		{"rule type", rules(Rule{Type: "infix"}), `no rule type "infix"`, "passthrough, prefix and suffix"},
		{"rule twice", rules(keep("-"), keep("/")), `second rule of type "passthrough"`, "join"},
		{"empty rule", rules(keep("")), "not text", "leave the rule out"},
		{"rule of a length", rules(Rule{Type: KeepCharacters, Characters: "-", Length: 3}), "not text", "leave the rule out"},
		{"no prefix", rules(Rule{Type: KeepPrefix}), "not a length from 1 to 255", "leave the rule out"},
		{"long suffix", rules(Rule{Type: KeepSuffix, Length: 256}), "not a length from 1 to 255", "leave the rule out"},
		{"negative suffix", rules(Rule{Type: KeepSuffix, Length: -1}), "not a length from 1 to 255", "leave the rule out"},
		{"passthrough in input", rules(keep("-5")), `'5' is in passthrough and in input_character_set`, "take it out"},
		{"passthrough in output", rules(keep("-x")), `'x' is in passthrough and in output_character_set`, "take it out"},
		{"passthrough twice", rules(keep("--")), "passthrough has '-' twice", "take one"},
		{"passthrough of spaces", rules(keep(" \u00a0")), "nothing but spaces", "add another"},
		{"priority missing", rules(Rule{Type: KeepCharacters, Characters: "-", Priority: 1}, Rule{Type: KeepPrefix, Length: 1}), "the priority 0", "left out everywhere"},
		{"priority twice", rules(Rule{Type: KeepCharacters, Characters: "-", Priority: 4}, Rule{Type: KeepPrefix, Length: 1, Priority: 4}), "two rules with the priority 4", "its own"},
		{"priority too large", rules(Rule{Type: KeepCharacters, Characters: "-", Priority: 101}), "the priority 101", "from 1 to 100"},
		{"python's priority", rules(Rule{Type: KeepPrefix, Length: 1, Priority: 1}), "python's client library", "from 2"},

		{"too short", with(func(s *Spec) { s.MinInputLength = 5 }), "min_input_length is 5", "say 6 or more"},
		{"negative", with(func(s *Spec) { s.MinInputLength = -5 }), "min_input_length is -5", "say 6 or more"},
		{"under two", with(func(s *Spec) { s.InputCharacterSet, s.OutputCharacterSet, s.MinInputLength = han(1001), han(1002), 1 }), "min_input_length is 1", "say 2 or more"},
		{"short then long", with(func(s *Spec) { s.MinInputLength, s.MaxInputLength = 9, 8 }), "less than the 9", "say 9 or more"},
		{"too long", with(func(s *Spec) { s.MaxInputLength = 4097 }), "max_input_length is 4097", "up to 4096"},
		{"few bits", with(func(s *Spec) { s.OutputCharacterSet, s.MSBEncodingBits = numerals[:12], bits(2) }), "need 3", "say 3 up to 16"},
		{"many bits", with(func(s *Spec) { s.MSBEncodingBits = bits(17) }), "is 17", "up to 16"},
		{"negative bits", with(func(s *Spec) { s.MSBEncodingBits = bits(-1) }), "is -1", "up to 16"},

		{"short tweak", with(func(s *Spec) { s.Tweak = make([]byte, 5) }), "a tweak of 5 bytes", "leave tweak out"},
		{"long tweak", with(func(s *Spec) { s.Tweak = make([]byte, 33) }), "a tweak of 33 bytes", "leave tweak out"},
		{"tweak lengths", with(func(s *Spec) { s.TweakMinLen = 40 }), "tweaks of 40 to 32 bytes", "from 1 to 256"},
		{"tweak of nothing", with(func(s *Spec) { s.TweakMinLen = -1 }), "tweaks of -1 to 32 bytes", "from 1 to 256"},
		{"tweak of much", with(func(s *Spec) { s.TweakMaxLen = 257 }), "tweaks of 6 to 257 bytes", "from 1 to 256"},
		{"salt", with(func(s *Spec) { s.Salt = make([]byte, 31) }), "a salt of 31 bytes", "leave salt out"},

		{"formatted and encoded", with(func(s *Spec) { s.InputEncoding = Base32 }), "no encoding and no padding", "generic_string"},
		{"formatted and padded", with(func(s *Spec) { s.InputPadCharacter = "0" }), "no encoding and no padding", "generic_string"},
		{"encoding", Spec{DataType: GenericString, InputEncoding: "rot13"}, `no encoding "rot13"`, "base32 and base64"},
		{"alphabet of an encoding", Spec{DataType: GenericString, InputEncoding: Base32, InputCharacterSet: upperLetters + "_", OutputCharacterSet: alphanumeric}, "base32 text has '2'", "leave input_character_set out"},
		{"padding in an encoding", Spec{DataType: GenericString, InputEncoding: Base64, InputPadCharacter: "="}, "base64 text can have the pad character '='", "\"_\""},
		{"two pad characters", Spec{DataType: GenericString, InputEncoding: Base32, InputPadCharacter: "__"}, "not one character", "\"_\""},
		{"space for padding", Spec{DataType: GenericString, InputEncoding: Base32, InputPadCharacter: " "}, "the pad character is a space", "\"_\""},
		{"pad character elsewhere", Spec{DataType: GenericString, InputCharacterSet: digits, OutputCharacterSet: alphanumeric, InputPadCharacter: "_"}, "is not in input_character_set", "add it there"},
		{"padding and passthrough", Spec{DataType: GenericString, InputEncoding: Base32, PassthroughRules: []Rule{keep("-")}}, "together with a rule", "prefix and suffix"},
		{"token of two lengths", Spec{DataType: Token, MinInputLength: 64, MaxInputLength: 128}, "one length, not 64 to 128", "generic_string"},

		{"size of a string", with(func(s *Spec) { s.DataTypeConfig.Size = 32 }), "no size", "integer"},
		{"epoch of an integer", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32, Epoch: at(1970, 1, 1, 0)}}, "no epoch", "date or datetime"},
		{"no size", Spec{DataType: Integer}, "neither 32 nor 64", "size: 32"},
		{"size", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 16}}, "size of integers is 16", "size: 32"},
		{"hexadecimal input", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32}, InputCharacterSet: digits + "A"}, "is not \"0123456789\"", "leave it out"},
		{"small numerals", Spec{DataType: Date, OutputCharacterSet: digits + "ab"}, "is not the beginning of", ".NET"},
		{"base 16", Spec{DataType: Date, OutputCharacterSet: numerals + "F"}, "is not the beginning of", ".NET"},
		{"number with padding", Spec{DataType: Date, InputPadCharacter: "0"}, "no encoding and no padding", "leave"},
		{"number with a prefix", Spec{DataType: Date, PassthroughRules: []Rule{{Type: KeepPrefix, Length: 1}}}, "minus sign", "leave passthrough_rules out"},
		{"number with a slash", Spec{DataType: Date, PassthroughRules: []Rule{keep("/-")}}, "minus sign", "leave passthrough_rules out"},
		{"number of two lengths", Spec{DataType: Date, MaxInputLength: 7}, "one length, not 6 to 7", "same value"},
		{"number of 19 digits", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 64}, MinInputLength: 19}, "19 digits", "up to 18"},
		{"number beyond a float", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 64}, OutputCharacterSet: numerals}, "16 digits to base 15", "even number"},
		{"ciphertext beyond 32 bits", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32}, MinInputLength: 10}, "encrypted values of 10 digits", "size of 64"},
		{"bounds of integers", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32, MaxInt: number(100000000)}}, "does not fit in 8 digits", "-99999999 to 99999999"},
		{"low bound of integers", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32, MinInt: number(-100000000)}}, "does not fit in 8 digits", "-99999999 to 99999999"},
		{"no integers", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32, MinInt: number(7), MaxInt: number(7)}}, "not less than", "widest"},
		{"year 10000", Spec{DataType: Date, DataTypeConfig: ConfigSpec{MaxTime: at(10000, 1, 1, 0)}}, "max_input_date_value is not in the years 1 to 9999", "no other"},
		{"year 0", Spec{DataType: Date, DataTypeConfig: ConfigSpec{Epoch: at(0, 1, 1, 0)}}, "epoch is not in the years 1 to 9999", "no other"},
		{"half a day", Spec{DataType: Date, DataTypeConfig: ConfigSpec{MinTime: at(2000, 1, 1, 12)}}, "not a whole day", "2000-01-01T00:00:00Z"},
		{"no days", Spec{DataType: Date, DataTypeConfig: ConfigSpec{MinTime: at(2000, 1, 1, 0), MaxTime: at(2000, 1, 1, 0)}}, "is not before", "widest"},
		{"far days", Spec{DataType: Date, DataTypeConfig: ConfigSpec{MaxTime: at(2738, 11, 29, 0)}}, "more than 999999 days from the epoch", "move epoch"},
		{"days before the epoch", Spec{DataType: Date, DataTypeConfig: ConfigSpec{Epoch: at(1970, 1, 1, 0), MinTime: at(1900, 1, 1, 0)}}, "outside of what a value of type date can be", "the same"},
		{"days before the end", Spec{DataType: Date, DataTypeConfig: ConfigSpec{Epoch: at(9000, 1, 1, 0)}}, "outside of what a value of type date can be", "early enough"},
	}
	for _, test := range tests {
		_, err := New(test.spec, counted())
		e := fault.From(err)
		if e == nil || e.Code != fault.Invalid {
			t.Errorf("%s: New = %v, want it to be invalid", test.name, err)
			continue
		}
		if !strings.Contains(e.Message, test.want) || !strings.Contains(e.Hint, test.hint) {
			t.Errorf("%s: refused with %q, hint %q; want %q and %q in them", test.name, e.Message, e.Hint, test.want, test.hint)
		}
	}
}

// What New never makes is refused where a format is read back.
func TestValidate(t *testing.T) {
	tests := map[string]func(*Format){
		"another algorithm":      func(f *Format) { f.EncryptionAlgorithm = "FF3-1" },
		"another definable type": func(f *Format) { f.FPEDefinableType = "" },
		"another tweak source":   func(f *Format) { f.TweakSource = "generated" },
		"a passthrough alone":    func(f *Format) { f.Passthrough = "-" },
		"bounds of a string":     func(f *Format) { f.DataTypeConfig = &Config{Size: 32, MaxInt: 9} },
		"no bounds of a number":  func(f *Format) { *f = mustNew(t, Spec{DataType: Date}); f.DataTypeConfig = nil },
		"no tweak":               func(f *Format) { f.Tweak = nil },
		"a token without pad":    func(f *Format) { *f = mustNew(t, Spec{DataType: Token}); f.InputPadCharacter = "" },
	}
	for name, change := range tests {
		f := mustNew(t, Spec{InputCharacterSet: digits, OutputCharacterSet: alphanumeric})
		change(&f)
		if err := f.Validate(); !fault.Is(err, fault.Invalid) || fault.From(err).Hint == "" {
			t.Errorf("%s: Validate = %v, want it to be invalid, with a hint", name, err)
		}
	}
}

// han returns n different characters.
func han(n int) string {
	set := make([]rune, n)
	for i := range set {
		set[i] = rune(0x4E00 + i)
	}
	return string(set)
}
