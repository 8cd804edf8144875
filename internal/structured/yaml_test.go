package structured_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
	"keyctl/internal/structured"
)

// A column of customer numbers such as DE-004711-07, of which the country and the check digits are to stay.
func ExampleParseSpec() {
	spec, err := structured.ParseSpec([]byte(`
input_character_set: 0123456789
output_character_set: 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ
passthrough_rules:
  - {type: passthrough, value: "-"}
  - {type: prefix, value: 2}
  - {type: suffix, value: 2}
min_input_length: 6
max_input_length: 6
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	format, err := structured.New(spec, rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("data keys:", format.HighestKeyNumber()+1)
	// Output: data keys: 36
}

func TestParseSpec(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	bits := func(n int) *int { return &n }
	moment := func(text string) *time.Time {
		m, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return &m
	}
	tests := map[string]struct {
		yaml string
		want structured.Spec
	}{
		"every field of text": {
			`
data_type: formatted_string
input_character_set: 0123456789
output_character_set: "0123456789ABCDEF: #"
passthrough_rules:
  - {type: suffix, value: 4, priority: 3}
  - type: passthrough
    value: "-"
    priority: 1
min_input_length: 6
max_input_length: 32
msb_encoding_bits: 0
tweak: AAECAwQFBgc=
tweak_min_len: 6
tweak_max_len: 32
salt: ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=
input_encoding: null
input_pad_character:
`,
			structured.Spec{
				DataType: structured.FormattedString, InputCharacterSet: "0123456789", OutputCharacterSet: "0123456789ABCDEF: #",
				PassthroughRules: []structured.Rule{
					{Type: structured.KeepSuffix, Length: 4, Priority: 3}, {Type: structured.KeepCharacters, Characters: "-", Priority: 1},
				},
				MinInputLength: 6, MaxInputLength: 32, MSBEncodingBits: bits(0), Tweak: []byte{0, 1, 2, 3, 4, 5, 6, 7},
				TweakMinLen: 6, TweakMaxLen: 32, Salt: []byte(" !\"#$%&'()*+,-./0123456789:;<=>?"),
			},
		},
		"encoded": {
			"data_type: generic_string\ninput_encoding: base64\ninput_pad_character: '~'",
			structured.Spec{DataType: structured.GenericString, InputEncoding: structured.Base64, InputPadCharacter: "~"},
		},
		"integers": {
			"data_type: integer\ndata_type_config: {size: 64, min_input_int_value: -1, max_input_int_value: 9999999999999999}",
			structured.Spec{DataType: structured.Integer, DataTypeConfig: structured.ConfigSpec{Size: 64, MinInt: number(-1), MaxInt: number(9999999999999999)}},
		},
		"times": {
			"data_type: datetime\ndata_type_config:\n  epoch: 1970-01-01\n  min_input_date_value: \"1900-01-01T12:00:00+01:00\"\n  max_input_date_value: 2099-12-31T23:59:59Z",
			structured.Spec{DataType: structured.DateTime, DataTypeConfig: structured.ConfigSpec{
				Epoch: moment("1970-01-01T00:00:00Z"), MinTime: moment("1900-01-01T11:00:00Z"), MaxTime: moment("2099-12-31T23:59:59Z"),
			}},
		},
		"passthrough for short": {
			`passthrough: " -"`,
			structured.Spec{PassthroughRules: []structured.Rule{{Type: structured.KeepCharacters, Characters: " -"}}},
		},
		"passthrough repeated": {
			"passthrough: '-'\npassthrough_rules: [{type: prefix, value: 1, priority: 2}, {type: passthrough, value: '-', priority: 1}]",
			structured.Spec{PassthroughRules: []structured.Rule{
				{Type: structured.KeepPrefix, Length: 1, Priority: 2}, {Type: structured.KeepCharacters, Characters: "-", Priority: 1},
			}},
		},
		"from JSON": {
			`{"data_type": "token", "data_type_config": null, "passthrough": "", "passthrough_rules": [], "min_input_length": 128, "input_encoding": "base32"}`,
			structured.Spec{DataType: structured.Token, MinInputLength: 128, InputEncoding: structured.Base32},
		},
	}
	for name, test := range tests {
		got, err := structured.ParseSpec([]byte(test.yaml))
		if err != nil {
			t.Errorf("%s: %v (%s)", name, err, fault.From(err).Hint)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseSpecRefuses(t *testing.T) {
	tests := []struct{ yaml, want, hint string }{
		{"", "nothing in it", "lines like"},
		{"# only a comment\n", "nothing in it", "lines like"},
		{"{}", "nothing in it", "lines like"},
		{"data_type:", "nothing in it", "lines like"},
		{"digits", "line 1: something that is not \"name: value\"", "lines like"},
		{"- data_type: token", "line 1: something that is not \"name: value\"", "lines like"},
		{"data_type: token\nname: customers", `line 2: an unknown field "name"`, "known fields are data_type, "},
		{"data_type: date\ndata_type_config:\n  epok: 1970-01-01", `line 3: an unknown field "epok"`, "epoch"},
		{"passthrough_rules: [{kind: prefix, value: 1}]", `line 1: an unknown field "kind"`, "type, value and priority"},
		{"data_type: token\ndata_type: date", `line 2: a second "data_type"`, "lines like"},
		{"data_type: token\n---\ndata_type: date", "more than one document", "one file is one dataset"},
		{"data_type: [token", "line 1: not valid YAML", "quotes"},
		{"passthrough: -", "not valid YAML", "quotes"},
		{"passthrough: [-, /]", "line 1: a list or several fields", "quotes"},
		{"data_type: [token]", "line 1: a list or several fields", "quotes"},
		{"min_input_length: {a: b}", "line 1: a list or several fields", "quotes"},
		{"\nmin_input_length: six", "line 2: not a whole number", "such as 6"},
		{"min_input_length: 6.5", "line 1: not a whole number", "such as 6"},
		{"min_input_length: 0x10", "line 1: not a whole number", "such as 6"},
		{"min_input_length: 99999999999999999999", "line 1: not a whole number", "such as 6"},
		{"tweak: not-base64!", "line 1: not in base64", "drawn"},
		{"data_type: date\ndata_type_config: {epoch: yesterday}", "line 2: not a date or time", "2026-01-31"},
		{"data_type: token\ninput_pad_character: ~", "line 2: ~ means nothing in YAML", `"~"`},
		{"passthrough_rules: prefix", "line 1: something that is not \"name: value\"", "lines like"},
		{"passthrough_rules: [{type: prefix, value: two}]", `the value of a rule of type "prefix"`, "how many characters"},
		{"passthrough: '-'\npassthrough_rules: [{type: passthrough, value: '/'}]", "passthrough and passthrough_rules differ", "leave passthrough out"},
		{"passthrough: '-'\npassthrough_rules: [{type: prefix, value: 1}]", "passthrough and passthrough_rules differ", "leave passthrough out"},
		{"input_character_set: " + strings.Repeat("x", structured.MaxSpecBytes), "more than 262144 bytes", "lines like"},
	}
	for _, test := range tests {
		_, err := structured.ParseSpec([]byte(test.yaml))
		e := fault.From(err)
		if e == nil || e.Code != fault.Invalid || !strings.Contains(e.Message, test.want) || !strings.Contains(e.Hint, test.hint) {
			t.Errorf("ParseSpec(%.60q) = %v, %+v; want %q and the hint %q", test.yaml, err, e, test.want, test.hint)
		}
	}
}

// A number that no length can be is still refused as a length, not cut down to one that fits.
func TestParseSpecKeepsLargeNumbersLarge(t *testing.T) {
	spec, err := structured.ParseSpec([]byte("data_type: token\nmin_input_length: 4294967360\nmax_input_length: 4294967360")) // 2^32 + 64
	if err != nil {
		t.Fatal(err)
	}
	if _, err := structured.New(spec, rand.Reader); !fault.Is(err, fault.Invalid) {
		t.Errorf("New = %v, want it to be invalid", err)
	}
}

// Whatever stands in a file, it is a format that holds every rule, or a fault.
func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{
		"data_type: token", "data_type: integer\ndata_type_config: {size: 32}", "data_type: date\ndata_type_config: {epoch: 1970-01-01}",
		"input_character_set: 0123456789\noutput_character_set: 0123456789ABCDEF\npassthrough: '-'\nmin_input_length: 6",
		"data_type: generic_string\ninput_encoding: base64\npassthrough_rules: [{type: suffix, value: 4, priority: 3}]",
		"a: &a [*a]", "data_type: &x token\ninput_encoding: *x", "{", "~",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := structured.ParseSpec(data)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("ParseSpec: %v", err)
			}
			return
		}
		format, err := structured.New(spec, rand.Reader)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("New: %v", err)
			}
			return
		}
		if err := format.Validate(); err != nil || format.HighestKeyNumber() < 0 {
			t.Fatalf("New made a format with the highest key number %d that is refused: %v", format.HighestKeyNumber(), err)
		}
	})
}
