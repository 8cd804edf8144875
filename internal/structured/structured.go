// Package structured says what the format of a structured dataset is: which characters its values consist of, how long
// they are, what stays in the clear, and how many data keys the ciphertexts can tell apart.
//
// A Format is what client libraries fetch and follow; they encrypt and decrypt, keyctl never does. A Spec, from a preset
// or from YAML, is what somebody asks for, and New makes the one from the other. Libraries check little of what they are
// given and index past their alphabets when it does not add up, so every rule that any of them needs is held here. What
// a rule is for was found by reading go 2.2.9, python 2.3.2, node 2.4.0, java 2.3.1, c 2.3.0, .NET 2.4.1 and php 2.1.0,
// and a comment names the libraries it is from. The package knows no store, no HTTP, no keys and no names of datasets.
package structured

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// DataType says what kind of values a dataset holds, and with that, which call of a client library encrypts them.
type DataType string

// The data types. Go and python know none of them: they take every dataset for a FormattedString, and what they make of
// another one no other library can read.
const (
	FormattedString DataType = "formatted_string" // text whose separators, beginning or end stay as they are
	GenericString   DataType = "generic_string"   // any text, encoded first, padded to a shortest length
	Token           DataType = "token"            // short text that becomes a ciphertext of one fixed length
	Integer         DataType = "integer"          // numbers of 32 or 64 bits that become numbers
	Date            DataType = "date"             // days that become days
	DateTime        DataType = "datetime"         // seconds that become seconds
)

// DataTypes lists every data type, the default first.
func DataTypes() []DataType {
	return []DataType{FormattedString, GenericString, Token, Integer, Date, DateTime}
}

// numeric reports whether values are numbers to a library: it turns them into digits before it encrypts them.
func (d DataType) numeric() bool { return d == Integer || d == Date || d == DateTime }

// What is the same in every format. Libraries know no other algorithm; the tweak's source says that the format brings one
// along, and c decodes it only then.
const (
	definableType = "EfpeDefinition"
	algorithm     = "FF1"
	tweakConstant = "constant"
)

// Bounds and usual sizes. Those of tweak and salt are Ubiq's.
const (
	drawnBytes     = 32 // of a tweak and of a salt
	usualTweakMin  = 6
	usualTweakMax  = 32
	maxTweakBytes  = 256
	usualMaxLength = 255
	maxLength      = 4096 // of a value: FF1 takes time by its square
	maxKept        = 255  // characters of a prefix or suffix
	maxPriority    = 100
	maxBits        = 16 // there are no more characters that one could tell apart
)

// Format is everything a client library has to know of a structured dataset but its name and what the caller may do with
// it. Its JSON has the names and types that libraries demand, nulls and empty lists included, and reads back the same.
type Format struct {
	DataType            DataType     `json:"data_type"`
	DataTypeConfig      *Config      `json:"data_type_config"` // nil for strings
	FPEDefinableType    string       `json:"fpe_definable_type"`
	EncryptionAlgorithm string       `json:"encryption_algorithm"`
	InputCharacterSet   string       `json:"input_character_set"`  // the order decides what a character is worth
	OutputCharacterSet  string       `json:"output_character_set"` // more characters than in the input
	Passthrough         string       `json:"passthrough"`          // the characters of the passthrough rule, or none
	PassthroughRules    Rules        `json:"passthrough_rules"`
	MinInputLength      int          `json:"min_input_length"` // in characters, of what is encrypted: rules, encoding
	MaxInputLength      int          `json:"max_input_length"` // and padding have been applied
	MSBEncodingBits     int          `json:"msb_encoding_bits"`
	TweakSource         string       `json:"tweak_source"`
	Tweak               []byte       `json:"tweak"`
	TweakMinLen         int          `json:"tweak_min_len"` // in bytes, of a tweak that a caller brings instead
	TweakMaxLen         int          `json:"tweak_max_len"`
	Salt                []byte       `json:"salt"` // no library uses it
	InputEncoding       Encoding     `json:"input_encoding"`
	InputPadCharacter   PadCharacter `json:"input_pad_character"`
}

// Permissions is what the caller may do with a dataset. Node, java and c refuse what is not allowed here, the others do
// not look.
type Permissions struct {
	Encrypt bool `json:"encrypt"`
	Decrypt bool `json:"decrypt"`
}

// Record is a Format as a client library receives it.
type Record struct {
	Name string `json:"name"`
	Format
	Permissions Permissions `json:"permissions"`
}

// Record returns the format under the dataset's name, for a caller with these permissions.
func (f Format) Record(name string, p Permissions) Record {
	return Record{Name: name, Format: f, Permissions: p}
}

// Encoding is how text is turned into characters of the input set before it is encrypted. None is null in JSON.
type Encoding string

// The encodings. Both are those of RFC 4648 with padding, over the UTF-8 of the text.
const (
	NoEncoding Encoding = ""
	Base32     Encoding = "base32"
	Base64     Encoding = "base64"
)

// alphabet is every character that the encoding can produce.
func (e Encoding) alphabet() string {
	switch e {
	case Base32:
		return upperLetters + "234567="
	case Base64:
		return upperLetters + lowerLetters + digits + "+/="
	}
	return ""
}

// PadCharacter is put in front of values that are too short, and taken away again. None is null in JSON: node and java
// would take "" for none as well, c would not.
type PadCharacter string

// MarshalJSON implements json.Marshaler.
func (e Encoding) MarshalJSON() ([]byte, error) { return textOrNull(string(e)) }

// UnmarshalJSON implements json.Unmarshaler; null is NoEncoding.
func (e *Encoding) UnmarshalJSON(data []byte) error {
	*e = ""
	return json.Unmarshal(data, (*string)(e))
}

// MarshalJSON implements json.Marshaler.
func (p PadCharacter) MarshalJSON() ([]byte, error) { return textOrNull(string(p)) }

// UnmarshalJSON implements json.Unmarshaler; null is none.
func (p *PadCharacter) UnmarshalJSON(data []byte) error {
	*p = ""
	return json.Unmarshal(data, (*string)(p))
}

func textOrNull(text string) ([]byte, error) {
	if text == "" {
		return []byte("null"), nil
	}
	return json.Marshal(text)
}

// RuleType says what a rule keeps in the clear.
type RuleType string

// The rule types. Go, python, c and .NET fail at any other.
const (
	KeepCharacters RuleType = "passthrough" // these characters, wherever they stand
	KeepPrefix     RuleType = "prefix"      // so many characters at the beginning
	KeepSuffix     RuleType = "suffix"      // so many at the end
)

// Rule keeps part of every value in the clear. What it keeps is taken out before encryption, the rule of the lowest
// priority first, and put back in the opposite order.
type Rule struct {
	Type       RuleType
	Characters string // of a KeepCharacters
	Length     int    // of the other two, in characters
	Priority   int
}

// ruleJSON has the one value that is text or a whole number: go asserts a number, .NET parses an integer from it.
type ruleJSON struct {
	Type     RuleType `json:"type"`
	Value    any      `json:"value"`
	Priority int      `json:"priority"`
}

// MarshalJSON implements json.Marshaler.
func (r Rule) MarshalJSON() ([]byte, error) {
	if r.Type == KeepCharacters {
		return json.Marshal(ruleJSON{r.Type, r.Characters, r.Priority})
	}
	return json.Marshal(ruleJSON{r.Type, r.Length, r.Priority})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Rule) UnmarshalJSON(data []byte) error {
	var value json.RawMessage
	read := ruleJSON{Value: &value}
	if err := decodeStrictly(data, &read); err != nil {
		return err
	}
	*r = Rule{Type: read.Type, Priority: read.Priority}
	if r.Type == KeepCharacters {
		return json.Unmarshal(value, &r.Characters)
	}
	return json.Unmarshal(value, &r.Length)
}

// Rules are the rules of a format. None is an empty list in JSON, never null: .NET and python fail at null.
type Rules []Rule

// MarshalJSON implements json.Marshaler.
func (r Rules) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("[]"), nil
	}
	return json.Marshal([]Rule(r))
}

// of returns the rule of a type, if there is one.
func (r Rules) of(t RuleType) (Rule, bool) {
	for _, rule := range r {
		if rule.Type == t {
			return rule, true
		}
	}
	return Rule{}, false
}

// Config bounds the values of an Integer, a Date or a DateTime. What does not belong to the type is left out of the
// JSON: .NET cannot read a null there.
type Config struct {
	Size           int   // 32 or 64 bits, of an Integer only
	MinInt, MaxInt int64 // the smallest and the largest number that may be encrypted

	Epoch            time.Time // where counting days or seconds begins
	MinTime, MaxTime time.Time // the first and the last moment that may be encrypted
}

// timeLayout is ISO 8601 in UTC with whole seconds, the one form that every library reads.
const timeLayout = "2006-01-02T15:04:05Z"

// integerConfig gives the bounds twice: java, .NET and php read the numbers, node and c the texts, because a number of
// 64 bits does not survive their JSON.
type integerConfig struct {
	Size    int    `json:"size"`
	Min     int64  `json:"min_input_int_value"`
	Max     int64  `json:"max_input_int_value"`
	MinText string `json:"min_input_int_value_as_string"`
	MaxText string `json:"max_input_int_value_as_string"`
}

type timeConfig struct {
	Epoch string `json:"epoch"`
	Min   string `json:"min_input_date_value"`
	Max   string `json:"max_input_date_value"`
}

// MarshalJSON implements json.Marshaler.
func (c Config) MarshalJSON() ([]byte, error) {
	if c.Size != 0 {
		return json.Marshal(integerConfig{
			Size: c.Size, Min: c.MinInt, Max: c.MaxInt,
			MinText: strconv.FormatInt(c.MinInt, 10), MaxText: strconv.FormatInt(c.MaxInt, 10),
		})
	}
	return json.Marshal(timeConfig{
		Epoch: c.Epoch.UTC().Format(timeLayout),
		Min:   c.MinTime.UTC().Format(timeLayout), Max: c.MaxTime.UTC().Format(timeLayout),
	})
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Config) UnmarshalJSON(data []byte) error {
	var i integerConfig
	if err := decodeStrictly(data, &i); err == nil {
		*c = Config{Size: i.Size, MinInt: i.Min, MaxInt: i.Max}
		if i.MinText != strconv.FormatInt(i.Min, 10) || i.MaxText != strconv.FormatInt(i.Max, 10) {
			return errors.New("the bounds of an integer dataset and their texts differ")
		}
		return nil
	}
	var t timeConfig
	if err := decodeStrictly(data, &t); err != nil {
		return err
	}
	var err [3]error
	*c = Config{}
	c.Epoch, err[0] = time.Parse(timeLayout, t.Epoch)
	c.MinTime, err[1] = time.Parse(timeLayout, t.Min)
	c.MaxTime, err[2] = time.Parse(timeLayout, t.Max)
	return errors.Join(err[:]...)
}

// decodeStrictly reads JSON that keyctl wrote itself.
func decodeStrictly(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// radix is how many characters a set has.
func radix(set string) int { return utf8.RuneCountInString(set) }
