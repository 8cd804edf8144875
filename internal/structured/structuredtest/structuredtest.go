// Package structuredtest encrypts and decrypts as client libraries do, so that tests can see a structured dataset work:
// beside internal/structured, and with the answers of a server. It reads nothing but the JSON that libraries receive and
// shares no code with the packages that it holds to their word; FF1 is proven by the samples of NIST SP 800-38G.
package structuredtest

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dataset is a dataset as a client library holds it.
type Dataset struct {
	Name        string
	DataType    string
	permissions struct{ encrypt, decrypt bool }

	in, out     []rune
	passthrough []rune
	rules       []rule // the lowest priority first
	least, most int
	bits        int
	tweak       []byte
	encoding    string
	pad         string

	size                    int
	minInt, maxInt          int64
	epoch, minTime, maxTime time.Time
}

type rule struct {
	kind     string
	length   int
	priority int
}

// fields are those of the JSON object, with the types that the strictest library of each demands.
type fields struct {
	Name                *string          `json:"name"`
	DataType            *string          `json:"data_type"`
	DataTypeConfig      *config          `json:"data_type_config"`
	FPEDefinableType    *string          `json:"fpe_definable_type"`
	EncryptionAlgorithm *string          `json:"encryption_algorithm"`
	InputCharacterSet   *string          `json:"input_character_set"`
	OutputCharacterSet  *string          `json:"output_character_set"`
	Passthrough         *string          `json:"passthrough"`
	PassthroughRules    *[]ruleFields    `json:"passthrough_rules"`
	MinInputLength      *int             `json:"min_input_length"`
	MaxInputLength      *int             `json:"max_input_length"`
	MSBEncodingBits     *int             `json:"msb_encoding_bits"`
	TweakSource         *string          `json:"tweak_source"`
	Tweak               *string          `json:"tweak"`
	TweakMinLen         *int             `json:"tweak_min_len"`
	TweakMaxLen         *int             `json:"tweak_max_len"`
	Salt                *string          `json:"salt"`
	InputEncoding       *string          `json:"input_encoding"`
	InputPadCharacter   *string          `json:"input_pad_character"`
	Permissions         *map[string]bool `json:"permissions"`
}

type config struct {
	Size    *int    `json:"size"`
	MinInt  *int64  `json:"min_input_int_value"`
	MaxInt  *int64  `json:"max_input_int_value"`
	MinText *string `json:"min_input_int_value_as_string"`
	MaxText *string `json:"max_input_int_value_as_string"`
	Epoch   *string `json:"epoch"`
	MinTime *string `json:"min_input_date_value"`
	MaxTime *string `json:"max_input_date_value"`
}

type ruleFields struct {
	Type     string          `json:"type"`
	Value    json.RawMessage `json:"value"`
	Priority int             `json:"priority"`
}

// nullable are the fields that may be null. The others may not, and all must be there.
var nullable = []string{"data_type_config", "input_encoding", "input_pad_character"}

// Read reads a dataset's JSON object. What some library could not read is an error.
func Read(data []byte) (*Dataset, error) {
	var present map[string]json.RawMessage
	if err := json.Unmarshal(data, &present); err != nil {
		return nil, err
	}
	var f fields
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		return nil, err
	}
	for _, name := range []string{
		"name", "data_type", "data_type_config", "fpe_definable_type", "encryption_algorithm", "input_character_set",
		"output_character_set", "passthrough", "passthrough_rules", "min_input_length", "max_input_length",
		"msb_encoding_bits", "tweak_source", "tweak", "tweak_min_len", "tweak_max_len", "salt", "input_encoding",
		"input_pad_character", "permissions",
	} {
		if value, ok := present[name]; !ok || string(value) == "null" && !slices.Contains(nullable, name) {
			return nil, fmt.Errorf("%s is missing or null", name)
		}
	}
	if *f.EncryptionAlgorithm != "FF1" || *f.FPEDefinableType != "EfpeDefinition" || *f.TweakSource != "constant" {
		return nil, fmt.Errorf("a dataset of %s, %s with a tweak that is %s", *f.EncryptionAlgorithm, *f.FPEDefinableType, *f.TweakSource)
	}
	d := &Dataset{
		Name: *f.Name, DataType: *f.DataType,
		in: []rune(*f.InputCharacterSet), out: []rune(*f.OutputCharacterSet), passthrough: []rune(*f.Passthrough),
		least: *f.MinInputLength, most: *f.MaxInputLength, bits: *f.MSBEncodingBits,
		encoding: orEmpty(f.InputEncoding), pad: orEmpty(f.InputPadCharacter),
	}
	d.permissions.encrypt, d.permissions.decrypt = (*f.Permissions)["encrypt"], (*f.Permissions)["decrypt"]
	var err error
	if d.tweak, err = base64.StdEncoding.DecodeString(*f.Tweak); err != nil {
		return nil, err
	}
	if len(d.tweak) < *f.TweakMinLen || len(d.tweak) > *f.TweakMaxLen {
		return nil, fmt.Errorf("a tweak of %d bytes", len(d.tweak))
	}
	if err := d.readRules(*f.PassthroughRules); err != nil {
		return nil, err
	}
	return d, d.readConfig(f.DataTypeConfig)
}

func orEmpty(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func (d *Dataset) readRules(rules []ruleFields) error {
	kept := ""
	for _, r := range rules {
		read := rule{kind: r.Type, priority: r.Priority}
		var into any = &read.length
		if r.Type == "passthrough" {
			into = &kept
		}
		if err := json.Unmarshal(r.Value, into); err != nil {
			return fmt.Errorf("a rule of type %q: %w", r.Type, err)
		}
		d.rules = append(d.rules, read)
	}
	if kept != string(d.passthrough) {
		return fmt.Errorf("passthrough is %q and its rule has %q", string(d.passthrough), kept)
	}
	slices.SortStableFunc(d.rules, func(a, b rule) int { return a.priority - b.priority })
	return nil
}

func (d *Dataset) readConfig(c *config) error {
	switch d.DataType {
	case "formatted_string", "generic_string", "token":
		if c != nil {
			return fmt.Errorf("a dataset of type %s with a data_type_config", d.DataType)
		}
	case "integer":
		if c == nil || c.Size == nil || c.MinInt == nil || c.MaxInt == nil || c.MinText == nil || c.MaxText == nil || c.Epoch != nil {
			return fmt.Errorf("the data_type_config of a dataset of type %s lacks something, or has too much", d.DataType)
		}
		d.size, d.minInt, d.maxInt = *c.Size, *c.MinInt, *c.MaxInt
		if strconv.FormatInt(d.minInt, 10) != *c.MinText || strconv.FormatInt(d.maxInt, 10) != *c.MaxText {
			return fmt.Errorf("the bounds are %d to %d, and %s to %s in text", d.minInt, d.maxInt, *c.MinText, *c.MaxText)
		}
	case "date", "datetime":
		if c == nil || c.Size != nil || c.MinInt != nil || c.MaxInt != nil || c.MinText != nil || c.MaxText != nil {
			return fmt.Errorf("the data_type_config of a dataset of type %s lacks something, or has too much", d.DataType)
		}
		for _, moment := range []struct {
			text *string
			into *time.Time
		}{{c.Epoch, &d.epoch}, {c.MinTime, &d.minTime}, {c.MaxTime, &d.maxTime}} {
			var err error
			if *moment.into, err = time.Parse("2006-01-02T15:04:05Z", orEmpty(moment.text)); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("a dataset of type %q", d.DataType)
	}
	return nil
}

// Tweak returns the tweak that goes with the dataset.
func (d *Dataset) Tweak() []byte { return slices.Clone(d.tweak) }

// Encrypt encrypts text under the data key of a number. A nil tweak is the dataset's own.
func (d *Dataset) Encrypt(text string, number int, key, tweak []byte) (string, error) {
	if !d.permissions.encrypt {
		return "", fmt.Errorf("no permission to encrypt")
	}
	value, restore, err := d.strip([]rune(text))
	if err != nil {
		return "", err
	}
	if value, err = d.encode(value); err != nil {
		return "", err
	}
	if len(value) < d.least || len(value) > d.most {
		return "", fmt.Errorf("%d characters, and not %d to %d", len(value), d.least, d.most)
	}
	plain, err := indices(value, d.in)
	if err != nil {
		return "", err
	}
	encrypted, err := ff1(key, d.orOwn(tweak), len(d.in), plain, true)
	if err != nil {
		return "", err
	}
	result := numerals(valueOf(encrypted, d.in), len(d.out), len(value))
	result[0] += number << d.bits
	if result[0] >= len(d.out) {
		return "", fmt.Errorf("key number %d is past the end of the alphabet", number)
	}
	return restore(characters(result, d.out))
}

// Decrypt decrypts what Encrypt made. Keys is asked for the data key of a number.
func (d *Dataset) Decrypt(text string, keys func(number int) ([]byte, error), tweak []byte) (string, error) {
	if !d.permissions.decrypt {
		return "", fmt.Errorf("no permission to decrypt")
	}
	value, restore, err := d.strip([]rune(text))
	if err != nil {
		return "", err
	}
	encrypted, err := indices(value, d.out)
	if err != nil {
		return "", err
	}
	if len(encrypted) == 0 {
		return "", fmt.Errorf("nothing to decrypt")
	}
	number := encrypted[0] >> d.bits
	encrypted[0] -= number << d.bits
	inner := valueOf(encrypted, d.out)
	if inner.Cmp(power(len(d.in), len(value))) >= 0 {
		return "", fmt.Errorf("what is encrypted does not fit in %d characters", len(value))
	}
	key, err := keys(number)
	if err != nil {
		return "", err
	}
	plain, err := ff1(key, d.orOwn(tweak), len(d.in), numerals(inner, len(d.in), len(value)), false)
	if err != nil {
		return "", err
	}
	decoded, err := d.decode(characters(plain, d.in))
	if err != nil {
		return "", err
	}
	return restore(decoded)
}

// valueOf is the number that numerals mean in the radix of an alphabet.
func valueOf(x []int, alphabet []rune) *big.Int { return number(x, len(alphabet)) }

func (d *Dataset) orOwn(tweak []byte) []byte {
	if tweak == nil {
		return d.tweak
	}
	return tweak
}

// strip takes out what the rules keep, and returns how to put it back around or between other characters.
func (d *Dataset) strip(text []rune) (value []rune, restore func([]rune) (string, error), err error) {
	restore = func(r []rune) (string, error) { return string(r), nil }
	for _, rule := range d.rules {
		outer := restore
		switch rule.kind {
		case "passthrough":
			kept, rest := text, []rune{}
			for _, c := range text {
				if !slices.Contains(d.passthrough, c) {
					rest = append(rest, c)
				}
			}
			text = rest
			restore = func(r []rune) (string, error) {
				if len(r) != len(rest) {
					return "", fmt.Errorf("%d characters in the place of %d", len(r), len(rest))
				}
				var whole []rune
				for _, c := range kept {
					if !slices.Contains(d.passthrough, c) {
						c, r = r[0], r[1:]
					}
					whole = append(whole, c)
				}
				return outer(whole)
			}
		case "prefix", "suffix":
			if len(text) < rule.length {
				return nil, nil, fmt.Errorf("%d characters, and a %s of %d", len(text), rule.kind, rule.length)
			}
			if rule.kind == "prefix" {
				kept := text[:rule.length]
				text = text[rule.length:]
				restore = func(r []rune) (string, error) { return outer(slices.Concat(kept, r)) }
			} else {
				kept := text[len(text)-rule.length:]
				text = text[:len(text)-rule.length]
				restore = func(r []rune) (string, error) { return outer(slices.Concat(r, kept)) }
			}
		default:
			return nil, nil, fmt.Errorf("a rule of type %q", rule.kind)
		}
	}
	return text, restore, nil
}

// encode encodes and pads.
func (d *Dataset) encode(value []rune) ([]rune, error) {
	text := string(value)
	switch d.encoding {
	case "":
	case "base32":
		text = base32.StdEncoding.EncodeToString([]byte(text))
	case "base64":
		text = base64.StdEncoding.EncodeToString([]byte(text))
	default:
		return nil, fmt.Errorf("an encoding %q", d.encoding)
	}
	if d.pad != "" {
		if strings.Contains(text, d.pad) {
			return nil, fmt.Errorf("text with the pad character %q", d.pad)
		}
		text = strings.Repeat(d.pad, max(0, d.least-len([]rune(text)))) + text
	}
	return []rune(text), nil
}

// decode is the reverse of encode.
func (d *Dataset) decode(value []rune) ([]rune, error) {
	text := string(value)
	if d.pad != "" {
		text = strings.TrimLeft(text, d.pad)
	}
	var data []byte
	var err error
	switch d.encoding {
	case "base32":
		data, err = base32.StdEncoding.DecodeString(text)
	case "base64":
		data, err = base64.StdEncoding.DecodeString(text)
	default:
		return []rune(text), nil
	}
	return []rune(string(data)), err
}

func indices(value, alphabet []rune) ([]int, error) {
	x := make([]int, len(value))
	for i, c := range value {
		if x[i] = slices.Index(alphabet, c); x[i] < 0 {
			return nil, fmt.Errorf("%q is not in the alphabet", c)
		}
	}
	return x, nil
}

func characters(x []int, alphabet []rune) []rune {
	value := make([]rune, len(x))
	for i, numeral := range x {
		value[i] = alphabet[numeral]
	}
	return value
}

// EncryptInt encrypts a number of an integer dataset under the data key of a number.
func (d *Dataset) EncryptInt(value int64, number int, key, tweak []byte) (int64, error) {
	if d.DataType != "integer" || value < d.minInt || value > d.maxInt {
		return 0, fmt.Errorf("%d is not a number of this dataset of type %s", value, d.DataType)
	}
	encrypted, err := d.encryptNumber(value, number, key, tweak)
	if limit := int64(1)<<(d.size-1) - 1; err == nil && (encrypted > limit || encrypted < -limit) {
		return 0, fmt.Errorf("%d does not fit in %d bits", encrypted, d.size)
	}
	return encrypted, err
}

// DecryptInt decrypts what EncryptInt made.
func (d *Dataset) DecryptInt(value int64, keys func(number int) ([]byte, error), tweak []byte) (int64, error) {
	if d.DataType != "integer" {
		return 0, fmt.Errorf("a dataset of type %s", d.DataType)
	}
	return d.decryptNumber(value, keys, tweak)
}

// EncryptTime encrypts a day or a second, of a date or a datetime dataset, under the data key of a number.
func (d *Dataset) EncryptTime(value time.Time, number int, key, tweak []byte) (time.Time, error) {
	if value.Before(d.minTime) || value.After(d.maxTime) {
		return time.Time{}, fmt.Errorf("%v is not a time of this dataset of type %s", value, d.DataType)
	}
	return d.timed(value, func(steps int64) (int64, error) { return d.encryptNumber(steps, number, key, tweak) })
}

// DecryptTime decrypts what EncryptTime made.
func (d *Dataset) DecryptTime(value time.Time, keys func(number int) ([]byte, error), tweak []byte) (time.Time, error) {
	return d.timed(value, func(steps int64) (int64, error) { return d.decryptNumber(steps, keys, tweak) })
}

// timed does to the steps from the epoch to a time what convert does. Time goes from the year 1 to 9999, as in .NET.
func (d *Dataset) timed(value time.Time, convert func(int64) (int64, error)) (time.Time, error) {
	unit := int64(1)
	switch d.DataType {
	case "date":
		unit = 24 * 60 * 60
	case "datetime":
	default:
		return time.Time{}, fmt.Errorf("a dataset of type %s", d.DataType)
	}
	seconds := value.Unix() - d.epoch.Unix()
	if seconds%unit != 0 || value.Nanosecond() != 0 {
		return time.Time{}, fmt.Errorf("%v is not a whole %s", value, d.DataType)
	}
	steps, err := convert(seconds / unit)
	if err != nil {
		return time.Time{}, err
	}
	result := time.Unix(d.epoch.Unix()+steps*unit, 0).UTC()
	if result.Year() < 1 || result.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%v is not in the years 1 to 9999", result)
	}
	return result, nil
}

// encryptNumber encrypts the decimal digits of a number, with its sign in front as java, .NET and php do.
func (d *Dataset) encryptNumber(value int64, number int, key, tweak []byte) (int64, error) {
	encrypted, err := d.Encrypt(signed(value, d.in, d.least), number, key, tweak)
	if err != nil {
		return 0, err
	}
	return parseSigned(encrypted, d.out)
}

func (d *Dataset) decryptNumber(value int64, keys func(number int) ([]byte, error), tweak []byte) (int64, error) {
	plain, err := d.Decrypt(signed(value, d.out, d.least), keys, tweak)
	if err != nil {
		return 0, err
	}
	return parseSigned(plain, d.in)
}

// signed writes a number in numerals of an alphabet, zeros in front up to a length.
func signed(value int64, alphabet []rune, least int) string {
	sign, magnitude := "", big.NewInt(value)
	if value < 0 {
		sign = "-"
		magnitude.Neg(magnitude)
	}
	length := least
	for magnitude.Cmp(power(len(alphabet), length)) >= 0 {
		length++
	}
	return sign + string(characters(numerals(magnitude, len(alphabet), length), alphabet))
}

func parseSigned(text string, alphabet []rune) (int64, error) {
	unsigned, negative := strings.CutPrefix(text, "-")
	x, err := indices([]rune(unsigned), alphabet)
	if err != nil {
		return 0, err
	}
	magnitude := valueOf(x, alphabet)
	if !magnitude.IsInt64() {
		return 0, fmt.Errorf("%v does not fit in 64 bits", magnitude)
	}
	if negative {
		return -magnitude.Int64(), nil
	}
	return magnitude.Int64(), nil
}
