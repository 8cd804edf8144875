package structured

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Spec is what somebody wants of a format. What is zero takes its usual value, which for most data types is all of it; a
// FormattedString has to say its characters.
type Spec struct {
	DataType           DataType     `json:"data_type,omitempty"` // FormattedString
	DataTypeConfig     ConfigSpec   `json:"data_type_config,omitzero"`
	InputCharacterSet  string       `json:"input_character_set,omitempty"`
	OutputCharacterSet string       `json:"output_character_set,omitempty"`
	PassthroughRules   []Rule       `json:"passthrough_rules,omitempty"` // with priorities, or all without: then in this order
	MinInputLength     int          `json:"min_input_length,omitempty"`  // the least that FF1 allows
	MaxInputLength     int          `json:"max_input_length,omitempty"`  // 255
	MSBEncodingBits    *int         `json:"msb_encoding_bits,omitempty"` // as few as possible
	Tweak              []byte       `json:"tweak,omitempty"`             // drawn
	TweakMinLen        int          `json:"tweak_min_len,omitempty"`     // 6
	TweakMaxLen        int          `json:"tweak_max_len,omitempty"`     // 32
	Salt               []byte       `json:"salt,omitempty"`              // drawn
	InputEncoding      Encoding     `json:"input_encoding,omitempty"`    // Base32 for a Token
	InputPadCharacter  PadCharacter `json:"input_pad_character,omitempty"`
}

// ConfigSpec is what somebody wants of a Config. What is missing becomes as wide as the length allows.
type ConfigSpec struct {
	Size    int        `json:"size,omitempty"` // of an Integer; there is no usual one
	MinInt  *int64     `json:"min_input_int_value,omitempty"`
	MaxInt  *int64     `json:"max_input_int_value,omitempty"`
	Epoch   *time.Time `json:"epoch,omitempty"` // the year 1 for a Date, 1970 for a DateTime
	MinTime *time.Time `json:"min_input_date_value,omitempty"`
	MaxTime *time.Time `json:"max_input_date_value,omitempty"`
}

// The alphabets that formats are made of, each in the order of its code points.
const (
	digits       = "0123456789"
	upperLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lowerLetters = "abcdefghijklmnopqrstuvwxyz"
	alphanumeric = digits + upperLetters + lowerLetters

	// beyond has what ASCII offers besides, without what means something in quoted text, SQL, CSV, XML or at the beginning
	// of a spreadsheet's cell.
	beyond = "!#$%()*./:;?[]^_{|}~"

	// numerals are how .NET writes numbers to a base between 11 and 15. Other bases it does not know, or, as 16, not with a
	// sign.
	numerals = "0123456789ABCDE"
)

const usualPad = "_"

// The sizes of numbers that leave the most data keys while a ciphertext is a number of the same type. With 8 digits to
// base 14, or 16, there are 14; with seconds of 10 digits to base 12, 6; with days of 6 digits to base 14, 3. The bounds
// that follow are those of Ubiq's own datasets.
const (
	digits32       = 8
	digits64       = 16
	integerOutput  = 14
	dateDigits     = 6
	dateOutput     = 14
	dateTimeDigits = 10
	dateTimeOutput = 12
)

// The lengths of encoded text: what 40 bytes are in base32, and for generic strings enough to hide how short a text is.
const (
	tokenLength   = 64
	encodedLength = 16
)

// New completes a spec and checks that all of it fits together. What has to be drawn is read from random. Errors are
// fault.Invalid, but for those of random.
func New(spec Spec, random io.Reader) (Format, error) {
	f := Format{
		DataType: spec.DataType, FPEDefinableType: definableType, EncryptionAlgorithm: algorithm,
		InputCharacterSet: spec.InputCharacterSet, OutputCharacterSet: spec.OutputCharacterSet,
		MinInputLength: spec.MinInputLength, MaxInputLength: spec.MaxInputLength,
		TweakSource: tweakConstant, Tweak: spec.Tweak, Salt: spec.Salt,
		TweakMinLen: orUsual(spec.TweakMinLen, usualTweakMin), TweakMaxLen: orUsual(spec.TweakMaxLen, usualTweakMax),
		InputEncoding: spec.InputEncoding, InputPadCharacter: spec.InputPadCharacter,
	}
	f.DataType = orUsual(f.DataType, FormattedString)
	f.completeCharacters()
	f.setRules(spec.PassthroughRules)
	if err := f.checkCharacters(); err != nil {
		return Format{}, err // lengths and bits are reckoned from them
	}
	f.completeLengths(spec.DataTypeConfig.Size)
	if err := f.checkLengths(); err != nil {
		return Format{}, err
	}
	if err := f.setConfig(spec.DataTypeConfig); err != nil {
		return Format{}, err
	}
	f.MSBEncodingBits = f.leastBits()
	if spec.MSBEncodingBits != nil {
		f.MSBEncodingBits = *spec.MSBEncodingBits
	}
	for _, drawn := range []*[]byte{&f.Tweak, &f.Salt} {
		if len(*drawn) != 0 {
			continue
		}
		*drawn = make([]byte, drawnBytes)
		if _, err := io.ReadFull(random, *drawn); err != nil {
			return Format{}, fmt.Errorf("drawing tweak and salt: %w", err)
		}
	}
	if err := f.Validate(); err != nil {
		return Format{}, err
	}
	return f, nil
}

func orUsual[T comparable](value, usual T) T {
	var zero T
	if value == zero {
		return usual
	}
	return value
}

// completeCharacters sets the character sets, encoding and padding that follow from the data type.
func (f *Format) completeCharacters() {
	in, out := "", ""
	switch f.DataType {
	case Token:
		f.InputEncoding = orUsual(f.InputEncoding, Base32)
	case Integer:
		in, out = digits, numerals[:integerOutput]
	case Date:
		in, out = digits, numerals[:dateOutput]
	case DateTime:
		in, out = digits, numerals[:dateTimeOutput]
	}
	if f.InputEncoding != NoEncoding && !f.DataType.numeric() {
		f.InputPadCharacter = orUsual(f.InputPadCharacter, usualPad)
		in, out = f.InputEncoding.alphabet(), alphanumeric
		if f.InputEncoding == Base64 {
			out += beyond
		}
		if pad := string(f.InputPadCharacter); radix(pad) == 1 && !strings.Contains(in, pad) { // else it is refused
			in += string(f.InputPadCharacter)
		}
	}
	f.InputCharacterSet = orUsual(f.InputCharacterSet, in)
	f.OutputCharacterSet = orUsual(f.OutputCharacterSet, out)
}

// setRules numbers rules that come without priorities, and repeats what is passed through: go and python read the
// characters from the rule on the way in and from the field on the way out.
func (f *Format) setRules(rules []Rule) {
	f.PassthroughRules = append(Rules{}, rules...)
	if f.DataType.numeric() && len(rules) == 0 {
		f.PassthroughRules = Rules{{Type: KeepCharacters, Characters: "-"}} // java and .NET encrypt the sign along
	}
	keep, kept := f.PassthroughRules.of(KeepCharacters)
	f.Passthrough = keep.Characters
	for _, rule := range f.PassthroughRules {
		if rule.Priority != 0 {
			return
		}
	}
	first := 1
	if !kept {
		first = 2 // see checkPriorities
	}
	for i := range f.PassthroughRules {
		f.PassthroughRules[i].Priority = first + i
	}
}

// completeLengths sets the lengths that are missing. The character sets have been checked.
func (f *Format) completeLengths(size int) {
	least := shortest(radix(f.InputCharacterSet))
	most := max(usualMaxLength, f.MinInputLength)
	switch {
	case f.DataType == Token:
		least = max(orUsual(f.MaxInputLength, tokenLength), least)
	case f.DataType == Integer && size == 32:
		least = digits32
	case f.DataType == Integer:
		least = digits64
	case f.DataType == Date:
		least = dateDigits
	case f.DataType == DateTime:
		least = dateTimeDigits
	case f.InputEncoding != NoEncoding:
		least = max(encodedLength, least)
		if f.MaxInputLength != 0 {
			least = min(least, f.MaxInputLength)
		}
	}
	f.MinInputLength = orUsual(f.MinInputLength, least)
	if f.DataType == Token || f.DataType.numeric() {
		most = f.MinInputLength
	}
	f.MaxInputLength = orUsual(f.MaxInputLength, most)
}

// setConfig completes the bounds of a numeric format, whose lengths have been checked.
func (f *Format) setConfig(spec ConfigSpec) error {
	isInteger := f.DataType == Integer
	switch {
	case !isInteger && (spec.Size != 0 || spec.MinInt != nil || spec.MaxInt != nil):
		return invalid("datasets of type %s have no size and no bounds of integers", f.DataType).
			WithHint("leave size, min_input_int_value and max_input_int_value out, or say data_type %s", Integer)
	case f.DataType != Date && f.DataType != DateTime && (spec.Epoch != nil || spec.MinTime != nil || spec.MaxTime != nil):
		return invalid("datasets of type %s have no epoch and no bounds of dates", f.DataType).
			WithHint("leave epoch, min_input_date_value and max_input_date_value out, or say data_type %s or %s", Date, DateTime)
	case !f.DataType.numeric():
		return nil
	}
	c := &Config{Size: spec.Size}
	f.DataTypeConfig = c
	reach := largestNumber(radix(digits), f.MinInputLength).Int64()
	if isInteger {
		c.MinInt, c.MaxInt = orGiven(-reach, spec.MinInt), orGiven(reach, spec.MaxInt)
		return nil
	}
	epoch, unit := firstMoment, secondsPerDay*time.Second
	if f.DataType == DateTime {
		epoch, unit = time.Unix(0, 0), time.Second
	}
	c.Epoch = orGiven(epoch, spec.Epoch).UTC()
	after := func(steps int64) time.Time { // the steps from the epoch, as far as the calendar goes
		moment := time.Unix(c.Epoch.Unix()+steps*int64(unit/time.Second), 0).UTC()
		switch {
		case moment.Before(firstMoment):
			return firstMoment
		case moment.After(lastMoment):
			return lastMoment.Truncate(unit)
		}
		return moment
	}
	earliest, latest := after(-reach), after(reach)
	if f.DataType == Date {
		// The ciphertext of a day before the epoch is earlier still, and there is little room before the year 1.
		earliest = c.Epoch
	}
	c.MinTime, c.MaxTime = orGiven(earliest, spec.MinTime).UTC(), orGiven(latest, spec.MaxTime).UTC()
	return nil
}

func orGiven[T any](usual T, given *T) T {
	if given == nil {
		return usual
	}
	return *given
}

// leastBits is the fewest bits that keep what is encrypted apart from the number of the data key.
func (f Format) leastBits() int {
	return bitsOver(largestFirst(radix(f.InputCharacterSet), radix(f.OutputCharacterSet), f.MinInputLength))
}
