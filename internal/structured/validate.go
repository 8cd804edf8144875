package structured

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"keyctl/internal/fault"
)

// Validate checks every rule of a format. Errors are fault.Invalid; the message has the reason, the hint what would do.
func (f Format) Validate() error {
	for _, fixed := range []struct{ field, have, want string }{
		{"fpe_definable_type", f.FPEDefinableType, definableType},
		{"encryption_algorithm", f.EncryptionAlgorithm, algorithm},
		{"tweak_source", f.TweakSource, tweakConstant},
	} {
		if fixed.have != fixed.want {
			return invalid("%s is %q, and client libraries know %s only", fixed.field, fixed.have, fixed.want).
				WithHint("leave it out")
		}
	}
	for _, check := range []func() error{f.checkCharacters, f.checkLengths, f.checkBits, f.checkTweak, f.checkConfig} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}

// checkCharacters checks what does not depend on lengths.
func (f Format) checkCharacters() error {
	if !slices.Contains(DataTypes(), f.DataType) {
		return invalid("no data type %q", f.DataType).WithHint("data types are %s", listed(DataTypes()))
	}
	if f.InputEncoding != NoEncoding && f.InputEncoding.alphabet() == "" {
		return invalid("no encoding %q", f.InputEncoding).WithHint("encodings are %s and %s", Base32, Base64)
	}
	for _, set := range f.sets() {
		if set.characters == "" {
			return invalid("%s is missing", set.field).WithHint("write the characters one after the other, such as %q", digits)
		}
		if err := checkSet(set.field, set.characters); err != nil {
			return err
		}
	}
	switch r, s := radix(f.InputCharacterSet), radix(f.OutputCharacterSet); {
	case r < 2:
		return invalid("input_character_set has one character, and text of one character is no secret").
			WithHint("give it at least two")
	case s <= r:
		return invalid("output_character_set has %d characters, and input_character_set has %d", s, r).
			WithHint("the output needs more than the input: what it has in excess tells data keys apart")
	}
	if err := f.checkRules(); err != nil {
		return err
	}
	if f.DataType.numeric() {
		return f.checkNumerals()
	}
	return f.checkEncoding()
}

// characterSet is one of the two sets that every format has.
type characterSet struct{ field, characters string }

func (f Format) sets() []characterSet {
	return []characterSet{{"input_character_set", f.InputCharacterSet}, {"output_character_set", f.OutputCharacterSet}}
}

// checkSet checks that the characters of a set are distinct and ordinary. Node, java and .NET index UTF-16 units where go
// and c index characters, so that only the basic multilingual plane means the same to all; of that, what cannot be seen
// is refused, for nobody would find it.
func checkSet(field, set string) error {
	if !utf8.ValidString(set) {
		return invalid("%s is not UTF-8", field).WithHint("save the text as UTF-8")
	}
	seen := make(map[rune]bool)
	for _, c := range set {
		switch {
		case c > 0xFFFF:
			return invalid("%s has %q (%U), which some client libraries take for two characters", field, c, c).
				WithHint("use characters up to U+FFFF")
		case unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point) || c == utf8.RuneError:
			return invalid("%s has %U, a character that cannot be seen", field, c).WithHint("take it out")
		case seen[c]:
			return invalid("%s has %q twice", field, c).WithHint("every character stands for one value: take one of the two out")
		}
		seen[c] = true
	}
	return nil
}

func (f Format) checkRules() error {
	seen := make(map[RuleType]bool)
	for _, rule := range f.PassthroughRules {
		if seen[rule.Type] {
			return invalid("a second rule of type %q", rule.Type).WithHint("one rule of each type is possible: join the two")
		}
		seen[rule.Type] = true
		switch rule.Type {
		case KeepCharacters:
			if err := f.checkKept(rule); err != nil {
				return err
			}
		case KeepPrefix, KeepSuffix:
			// Python would take a suffix of 0 characters for the whole value.
			if rule.Length < 1 || rule.Length > maxKept || rule.Characters != "" {
				return invalid("the value of a rule of type %q is not a length from 1 to %d", rule.Type, maxKept).
					WithHint("say how many characters stay, or leave the rule out")
			}
		default:
			return invalid("no rule type %q", rule.Type).
				WithHint("rule types are %s, %s and %s", KeepCharacters, KeepPrefix, KeepSuffix)
		}
	}
	if rule, _ := f.PassthroughRules.of(KeepCharacters); f.Passthrough != rule.Characters {
		return invalid("passthrough and the rule of type %q differ", KeepCharacters).
			WithHint("some client libraries read the one and some the other: repeat the value, or leave passthrough out")
	}
	return f.checkPriorities()
}

// checkKept checks the characters that stay in the clear. That the sets are disjoint is how libraries find them again.
func (f Format) checkKept(rule Rule) error {
	if rule.Characters == "" || rule.Length != 0 {
		return invalid("the value of a rule of type %q is not text", rule.Type).
			WithHint("write the characters that stay, such as \"-\", or leave the rule out")
	}
	if err := checkSet("passthrough", rule.Characters); err != nil {
		return err
	}
	for _, set := range f.sets() {
		if i := strings.IndexAny(set.characters, rule.Characters); i >= 0 {
			c, _ := utf8.DecodeRuneInString(set.characters[i:])
			return invalid("%q is in passthrough and in %s", c, set.field).WithHint("take it out of one of the two")
		}
	}
	if strings.IndexFunc(rule.Characters, isNoSpace) < 0 {
		// Node and java trim the set before they ask whether there is one, after they took the spaces out of the value.
		return invalid("passthrough has nothing but spaces, which some client libraries would lose").
			WithHint("add another character that values never have, such as \"-\"")
	}
	return nil
}

func isNoSpace(c rune) bool { return !unicode.IsSpace(c) }

// checkPriorities checks the order of the rules. Where there is no rule of characters, python adds one of its own with
// priority 1, which has to come before or after all others, in both directions.
func (f Format) checkPriorities() error {
	_, kept := f.PassthroughRules.of(KeepCharacters)
	seen := make(map[int]bool)
	for _, rule := range f.PassthroughRules {
		switch {
		case rule.Priority < 1 || rule.Priority > maxPriority:
			return invalid("a rule of type %q with the priority %d", rule.Type, rule.Priority).
				WithHint("priorities go from 1 to %d; left out everywhere, they follow the order of the rules", maxPriority)
		case seen[rule.Priority]:
			return invalid("two rules with the priority %d", rule.Priority).WithHint("give each its own; the lowest is applied first")
		case rule.Priority == 1 && !kept:
			return invalid("a rule of type %q with the priority 1, which python's client library has for another", rule.Type).
				WithHint("number the rules from 2")
		}
		seen[rule.Priority] = true
	}
	return nil
}

// checkNumerals checks the characters of numbers. Libraries turn a number into digits of the input set, the encrypted
// digits of the output set into a number, and back; .NET does so with decimal digits on the one side and numerals of its
// own on the other, node pads with the character 0. A minus sign goes through the encryption in java, .NET and php.
func (f Format) checkNumerals() error {
	s := radix(f.OutputCharacterSet)
	switch {
	case f.InputCharacterSet != digits:
		return invalid("the input_character_set of datasets of type %s is not %q", f.DataType, digits).WithHint("leave it out")
	case s > len(numerals) || f.OutputCharacterSet != numerals[:s]:
		return invalid("the output_character_set of datasets of type %s is not the beginning of %q", f.DataType, numerals).
			WithHint("the .NET library writes and reads these numerals; leave it out for the best length")
	case f.InputEncoding != NoEncoding || f.InputPadCharacter != "":
		return invalid("datasets of type %s have no encoding and no padding", f.DataType).
			WithHint("leave input_encoding and input_pad_character out")
	case len(f.PassthroughRules) != 1 || f.Passthrough != "-":
		return invalid("datasets of type %s pass the minus sign through and nothing else", f.DataType).
			WithHint("leave passthrough_rules out")
	}
	return nil
}

// checkEncoding checks encoding and padding of text. Padding is part of what is encrypted. Where characters are passed
// through, the libraries pad and unpad the places of these as well, and fit encoded text, which is longer, into places of
// the text: neither comes out again.
func (f Format) checkEncoding() error {
	pad, encoded := string(f.InputPadCharacter), f.InputEncoding.alphabet()
	switch {
	case f.InputEncoding == NoEncoding && pad == "" && f.DataType != Token:
		return nil
	case f.DataType == FormattedString:
		return invalid("datasets of type %s have no encoding and no padding", f.DataType).
			WithHint("leave input_encoding and input_pad_character out, or say data_type %s", GenericString)
	case f.DataType == Token && (f.InputEncoding == NoEncoding || pad == ""):
		return invalid("datasets of type %s are encoded and padded", f.DataType).
			WithHint("leave input_encoding and input_pad_character out for the usual ones")
	case f.Passthrough != "":
		return invalid("encoding or padding together with a rule of type %q", KeepCharacters).
			WithHint("leave one of them out; rules of type %s and %s go with both", KeepPrefix, KeepSuffix)
	}
	for _, c := range encoded {
		if !strings.ContainsRune(f.InputCharacterSet, c) {
			return invalid("%s text has %q, and input_character_set does not", f.InputEncoding, c).
				WithHint("leave input_character_set out")
		}
	}
	if pad == "" {
		return nil
	}
	switch c, _ := utf8.DecodeRuneInString(pad); {
	case radix(pad) != 1:
		return invalid("input_pad_character is %q, which is not one character", pad).WithHint("such as %q", usualPad)
	case strings.ContainsRune(encoded, c):
		return invalid("%s text can have the pad character %q", f.InputEncoding, c).
			WithHint("choose another, such as %q: it is taken away from the beginning of every value", usualPad)
	case unicode.IsSpace(c): // node asks whether it is empty after it trimmed it
		return invalid("the pad character is a space, which some client libraries do not take away again").
			WithHint("choose another, such as %q", usualPad)
	case !strings.ContainsRune(f.InputCharacterSet, c):
		return invalid("the pad character %q is not in input_character_set", c).
			WithHint("padding is encrypted with the value: add it there")
	}
	return nil
}

// maxDigits is how many decimal digits always fit in 64 bits.
const maxDigits = 18

func (f Format) checkLengths() error {
	r := radix(f.InputCharacterSet)
	switch least := shortest(r); {
	case f.MinInputLength < least:
		return invalid("min_input_length is %d, and with %d input characters %s encrypts no text under %d",
			f.MinInputLength, r, algorithm, least).WithHint("say %d or more, or allow more input characters", least)
	case f.MaxInputLength < f.MinInputLength:
		return invalid("max_input_length is %d, less than the %d of min_input_length", f.MaxInputLength, f.MinInputLength).
			WithHint("say %d or more", f.MinInputLength)
	case f.MaxInputLength > maxLength:
		return invalid("max_input_length is %d", f.MaxInputLength).
			WithHint("up to %d is possible; an unstructured dataset has no limit", maxLength)
	case f.DataType == Token && f.MaxInputLength != f.MinInputLength:
		return invalid("tokens have one length, not %d to %d", f.MinInputLength, f.MaxInputLength).
			WithHint("give min_input_length and max_input_length the same value, or say data_type %s", GenericString)
	}
	if !f.DataType.numeric() {
		return nil
	}
	switch {
	case f.MaxInputLength != f.MinInputLength:
		// Zeros at the beginning of a ciphertext are lost, and put back up to the least length only.
		return invalid("numbers have one length, not %d to %d", f.MinInputLength, f.MaxInputLength).
			WithHint("give min_input_length and max_input_length the same value, or leave both out")
	case f.MaxInputLength > maxDigits:
		return invalid("numbers of %d digits do not fit in 64 bits", f.MaxInputLength).WithHint("up to %d do", maxDigits)
	}
	// .NET reckons what a place is worth as a float of 53 bits.
	s := radix(f.OutputCharacterSet)
	if place := power(s, f.MinInputLength-1); place.BitLen()-int(place.TrailingZeroBits()) > 53 {
		return invalid("the .NET library cannot reckon with %d digits to base %d", f.MinInputLength, s).
			WithHint("leave output_character_set and the lengths out, or make the set shorter: an even number of characters reaches farthest")
	}
	return nil
}

func (f Format) checkBits() error {
	if least := f.leastBits(); f.MSBEncodingBits < least || f.MSBEncodingBits > maxBits {
		return invalid("msb_encoding_bits is %d, and these character sets need %d", f.MSBEncodingBits, least).
			WithHint("leave it out, or say %d up to %d", least, maxBits)
	}
	return nil
}

func (f Format) checkTweak() error {
	switch {
	case f.TweakMinLen < 1 || f.TweakMaxLen < f.TweakMinLen || f.TweakMaxLen > maxTweakBytes:
		return invalid("tweaks of %d to %d bytes", f.TweakMinLen, f.TweakMaxLen).
			WithHint("tweak_min_len and tweak_max_len go from 1 to %d; leave them out for %d and %d", maxTweakBytes, usualTweakMin, usualTweakMax)
	case len(f.Tweak) < f.TweakMinLen || len(f.Tweak) > f.TweakMaxLen:
		return invalid("a tweak of %d bytes, and tweaks have %d to %d", len(f.Tweak), f.TweakMinLen, f.TweakMaxLen).
			WithHint("leave tweak out to have one drawn, or change tweak_min_len and tweak_max_len")
	case len(f.Salt) != drawnBytes:
		return invalid("a salt of %d bytes, and not of %d", len(f.Salt), drawnBytes).WithHint("leave salt out to have one drawn")
	}
	return nil
}

// checkConfig checks the bounds of numbers, and that their ciphertexts are such numbers too.
func (f Format) checkConfig() error {
	c := f.DataTypeConfig
	switch {
	case !f.DataType.numeric() && c != nil:
		return invalid("datasets of type %s have no bounds", f.DataType).WithHint("leave data_type_config out")
	case !f.DataType.numeric():
		return nil
	case c == nil:
		return invalid("datasets of type %s have bounds", f.DataType).WithHint("data_type_config is missing")
	}
	check := f.checkTimes
	if f.DataType == Integer {
		check = f.checkIntegers
	}
	if err := check(); err != nil {
		return err
	}
	if largest := largestNumber(radix(digits), f.MinInputLength); largest.Cmp(f.room()) > 0 {
		err := invalid("encrypted values of %d digits can lie outside of what a value of type %s can be", f.MinInputLength, f.DataType)
		if f.DataType == Integer {
			return err.WithHint("leave the lengths out, or use a size of 64")
		}
		return err.WithHint("let epoch and min_input_date_value be the same, early enough, or leave them out")
	}
	return nil
}

func (f Format) checkIntegers() error {
	c, reach := f.DataTypeConfig, largestNumber(radix(digits), f.MinInputLength).Int64()
	switch {
	case c.Size != 32 && c.Size != 64:
		return invalid("the size of integers is %d, and neither 32 nor 64", c.Size).WithHint("say in data_type_config  size: 32  or  size: 64")
	case c.MinInt >= c.MaxInt:
		return invalid("min_input_int_value is not less than max_input_int_value").WithHint("leave them out for the widest bounds")
	case c.MinInt < -reach || c.MaxInt > reach:
		return invalid("%d to %d does not fit in %d digits", c.MinInt, c.MaxInt, f.MinInputLength).
			WithHint("with these lengths, integers go from %d to %d", -reach, reach)
	}
	return nil
}

// checkTimes checks moments. Node refuses what has parts of a day or second that .NET would cut off.
func (f Format) checkTimes() error {
	c, reach := f.DataTypeConfig, largestNumber(radix(digits), f.MinInputLength).Int64()
	unit, name := time.Second, "second"
	if f.DataType == Date {
		unit, name = secondsPerDay*time.Second, "day"
	}
	for _, moment := range []struct {
		field string
		time.Time
	}{{"epoch", c.Epoch}, {"min_input_date_value", c.MinTime}, {"max_input_date_value", c.MaxTime}} {
		switch {
		case moment.Before(firstMoment) || moment.After(lastMoment):
			return invalid("%s is not in the years 1 to 9999", moment.field).WithHint("client libraries have no other years")
		case !moment.UTC().Truncate(unit).Equal(moment.Time):
			return invalid("%s is not a whole %s in UTC", moment.field, name).WithHint("such as %s", moment.UTC().Truncate(unit).Format(timeLayout))
		}
	}
	switch {
	case !c.MinTime.Before(c.MaxTime):
		return invalid("min_input_date_value is not before max_input_date_value").WithHint("leave them out for the widest bounds")
	case f.steps(c.MinTime, c.Epoch) > reach || f.steps(c.Epoch, c.MaxTime) > reach:
		return invalid("the bounds are more than %d %ss from the epoch, and do not fit in %d digits", reach, name, f.MinInputLength).
			WithHint("move epoch, or leave it and the bounds out")
	}
	return nil
}

// listed joins words for a hint.
func listed[T ~string](words []T) string {
	var b strings.Builder
	for i, word := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" and ")
		default:
			b.WriteString(", ")
		}
		fmt.Fprint(&b, word)
	}
	return b.String()
}
