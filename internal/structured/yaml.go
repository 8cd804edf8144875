package structured

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"keyctl/internal/fault"
)

// MaxSpecBytes bounds the YAML of a spec; the largest character sets take less.
const MaxSpecBytes = 256 << 10

// document is a spec in YAML. The fields are those that client libraries receive, so that a record of theirs can be
// copied, without what New has to set; null and nothing are the same. passthrough is short for one rule.
//
//	data_type: formatted_string         # or generic_string, token, integer, date, datetime
//	input_character_set: "0123456789"
//	output_character_set: "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
//	passthrough_rules:                  # what stays in the clear; applied in the order of their priorities
//	  - {type: passthrough, value: "-", priority: 1}
//	  - {type: prefix, value: 2, priority: 2}
//	  - {type: suffix, value: 4, priority: 3}
//	min_input_length: 6                 # of what is left
//	max_input_length: 32
//	msb_encoding_bits: 0
//	tweak: ZGVtbyB0d2VhayBvZiAzMiBieXRlcywgbm90IGZvciB1c2U=
//	tweak_min_len: 6
//	tweak_max_len: 32
//	salt: ZGVtbyBzYWx0IG9mIDMyIGJ5dGVzLCBubyBvbmUgdXNlcyE=
//
// Generic strings and tokens have besides
//
//	input_encoding: base32              # or base64
//	input_pad_character: "_"
//
// and the others bounds:
//
//	data_type_config:
//	  size: 64                          # of integers: 32 or 64
//	  min_input_int_value: -1000
//	  max_input_int_value: 1000000
//	  epoch: 1970-01-01                 # of dates and times
//	  min_input_date_value: 1900-01-01
//	  max_input_date_value: 2099-12-31
type document struct {
	DataType           text         `yaml:"data_type"`
	DataTypeConfig     configFields `yaml:"data_type_config"`
	InputCharacterSet  text         `yaml:"input_character_set"`
	OutputCharacterSet text         `yaml:"output_character_set"`
	Passthrough        text         `yaml:"passthrough"`
	PassthroughRules   []ruleFields `yaml:"passthrough_rules"`
	MinInputLength     number       `yaml:"min_input_length"`
	MaxInputLength     number       `yaml:"max_input_length"`
	MSBEncodingBits    number       `yaml:"msb_encoding_bits"`
	Tweak              base64Bytes  `yaml:"tweak"`
	TweakMinLen        number       `yaml:"tweak_min_len"`
	TweakMaxLen        number       `yaml:"tweak_max_len"`
	Salt               base64Bytes  `yaml:"salt"`
	InputEncoding      text         `yaml:"input_encoding"`
	InputPadCharacter  text         `yaml:"input_pad_character"`
}

type configFields struct {
	Size    number `yaml:"size"`
	MinInt  number `yaml:"min_input_int_value"`
	MaxInt  number `yaml:"max_input_int_value"`
	Epoch   moment `yaml:"epoch"`
	MinTime moment `yaml:"min_input_date_value"`
	MaxTime moment `yaml:"max_input_date_value"`
}

type ruleFields struct {
	Type     text   `yaml:"type"`
	Value    text   `yaml:"value"`
	Priority number `yaml:"priority"`
}

// ParseSpec reads a spec from YAML. Errors are fault.Invalid and name the line, and the field where there is one; what
// only New can tell is not checked here. A spec of nothing is refused.
func ParseSpec(data []byte) (Spec, error) {
	const hint = "a dataset consists of lines like  passthrough: \"-\", and special characters stand in quotes"
	if len(data) > MaxSpecBytes {
		return Spec{}, invalid("more than %d bytes", MaxSpecBytes).WithHint(hint)
	}
	var d document
	var nodes yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	switch err := decoder.Decode(&d); {
	case errors.Is(err, io.EOF):
		return Spec{}, invalid("nothing in it").WithHint(hint)
	case err != nil:
		return Spec{}, explain(err, hint)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Spec{}, invalid("more than one document").WithHint("one file is one dataset: leave out what follows ---")
	}
	if reflect.DeepEqual(d, document{}) {
		return Spec{}, invalid("nothing in it").WithHint(hint)
	}
	if err := yaml.Unmarshal(data, &nodes); err != nil {
		return Spec{}, explain(err, hint)
	}
	if line := tilde(&nodes); line != 0 {
		return Spec{}, invalid("line %d: ~ means nothing in YAML", line).
			WithHint("write \"~\" for the character, or leave the field out")
	}
	return d.spec()
}

func (d document) spec() (Spec, error) {
	s := Spec{
		DataType:          DataType(d.DataType),
		InputCharacterSet: string(d.InputCharacterSet), OutputCharacterSet: string(d.OutputCharacterSet),
		MinInputLength: d.MinInputLength.int(), MaxInputLength: d.MaxInputLength.int(),
		Tweak: d.Tweak, TweakMinLen: d.TweakMinLen.int(), TweakMaxLen: d.TweakMaxLen.int(), Salt: d.Salt,
		InputEncoding: Encoding(d.InputEncoding), InputPadCharacter: PadCharacter(d.InputPadCharacter),
		DataTypeConfig: ConfigSpec{
			Size: d.DataTypeConfig.Size.int(), MinInt: d.DataTypeConfig.MinInt.value, MaxInt: d.DataTypeConfig.MaxInt.value,
			Epoch: d.DataTypeConfig.Epoch.value, MinTime: d.DataTypeConfig.MinTime.value, MaxTime: d.DataTypeConfig.MaxTime.value,
		},
	}
	if d.MSBEncodingBits.value != nil {
		bits := d.MSBEncodingBits.int()
		s.MSBEncodingBits = &bits
	}
	for _, fields := range d.PassthroughRules {
		rule := Rule{Type: RuleType(fields.Type), Priority: fields.Priority.int()}
		if rule.Type == KeepPrefix || rule.Type == KeepSuffix {
			length, err := strconv.Atoi(string(fields.Value))
			if err != nil {
				return Spec{}, invalid("the value of a rule of type %q is not a length from 1 to %d", rule.Type, maxKept).
					WithHint("say how many characters stay, or leave the rule out")
			}
			rule.Length = length
		} else {
			rule.Characters = string(fields.Value)
		}
		s.PassthroughRules = append(s.PassthroughRules, rule)
	}
	kept, given := Rules(s.PassthroughRules).of(KeepCharacters)
	switch short := string(d.Passthrough); {
	case short == "" || short == kept.Characters:
	case given || len(s.PassthroughRules) > 0:
		return Spec{}, invalid("passthrough and passthrough_rules differ").
			WithHint("leave passthrough out: it is short for one rule of type %q and no other", KeepCharacters)
	default:
		s.PassthroughRules = []Rule{{Type: KeepCharacters, Characters: short}}
	}
	return s, nil
}

// explain words what the YAML library found, which says where and what in words only. What a value of this package found
// comes through as it is. Expressions are compiled here, for commands that read no YAML wait for what is compiled before.
func explain(err error, hint string) error {
	if e := fault.From(err); e != nil {
		return e
	}
	words := err.Error()
	var several *yaml.TypeError
	if errors.As(err, &several) && len(several.Errors) > 0 {
		words = several.Errors[0]
	}
	find := func(expression string) string {
		if m := regexp.MustCompile(expression).FindStringSubmatch(words); m != nil {
			return m[1]
		}
		return ""
	}
	what := "not valid YAML"
	if field := find(`^line \d+: field ([A-Za-z][A-Za-z0-9_-]{0,31}) not found in type`); field != "" {
		what = fmt.Sprintf("an unknown field %q", field)
		hint = "known fields are " + listed(fieldNames())
	} else if field := find(`^line \d+: mapping key "([a-z_]{1,32})" already defined`); field != "" {
		what = fmt.Sprintf("a second %q", field)
	} else if several != nil {
		what = "something that is not \"name: value\""
	}
	if line := find(`\bline (\d+)\b`); line != "" {
		what = "line " + line + ": " + what
	}
	return invalid("%s", what).WithHint("%s", hint)
}

func fieldNames() []string {
	var names []string
	for _, t := range []reflect.Type{reflect.TypeFor[document](), reflect.TypeFor[configFields](), reflect.TypeFor[ruleFields]()} {
		for i := range t.NumField() {
			names = append(names, t.Field(i).Tag.Get("yaml"))
		}
	}
	return names
}

// tilde returns the line in which a ~ stands for null, or 0. Who writes it wants the character.
func tilde(node *yaml.Node) int {
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" && node.Value == "~" {
		return node.Line
	}
	for _, child := range node.Content {
		if line := tilde(child); line != 0 {
			return line
		}
	}
	return 0
}

// scalar returns the text of a single value as it was written, so that 0123456789 without quotes is the ten digits. It is
// not asked for null.
func scalar(node *yaml.Node) (string, error) {
	if node.Kind != yaml.ScalarNode {
		return "", invalid("line %d: a list or several fields where one value belongs", node.Line).
			WithHint("put text that has special characters in quotes")
	}
	return node.Value, nil
}

// text is a value that is taken as it is written.
type text string

func (t *text) UnmarshalYAML(node *yaml.Node) error {
	s, err := scalar(node)
	*t = text(s)
	return err
}

// number is a whole number, or nothing.
type number struct{ value *int64 }

func (n *number) UnmarshalYAML(node *yaml.Node) error {
	s, err := scalar(node)
	if err != nil || s == "" {
		return err
	}
	value, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return invalid("line %d: not a whole number", node.Line).WithHint("such as 6")
	}
	n.value = &value
	return nil
}

// int is the number, or 0. One that is too large for the lengths that exist stays too large.
func (n number) int() int {
	if n.value == nil {
		return 0
	}
	return int(min(max(*n.value, -1<<30), 1<<30))
}

// base64Bytes is a value in standard base64, or nothing.
type base64Bytes []byte

func (b *base64Bytes) UnmarshalYAML(node *yaml.Node) error {
	s, err := scalar(node)
	if err != nil || s == "" {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return invalid("line %d: not in base64", node.Line).WithHint("leave the field out to have it drawn")
	}
	*b = data
	return nil
}

// moment is a time with its zone, or a day, which begins at 00:00 UTC; or nothing.
type moment struct{ value *time.Time }

func (m *moment) UnmarshalYAML(node *yaml.Node) error {
	s, err := scalar(node)
	if err != nil || s == "" {
		return err
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if value, err := time.Parse(layout, s); err == nil {
			value = value.UTC()
			m.value = &value
			return nil
		}
	}
	return invalid("line %d: not a date or time", node.Line).WithHint("such as 2026-01-31 or 2026-01-31T12:00:00Z")
}
