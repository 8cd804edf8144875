package structured

import "keyctl/internal/fault"

// Preset is a spec that has a name.
type Preset struct {
	Name  string
	About string // one line for a help text
	Spec  Spec
}

// Presets returns the presets. First come those that every client library encrypts alike: Go and python do with strings that are
// neither encoded nor padded; node, java, c, .NET and php with all. Every call makes them anew.
func Presets() []Preset {
	keep := func(characters string) Rule { return Rule{Type: KeepCharacters, Characters: characters} }
	return []Preset{
		{
			Name: "ssn", About: "US social security numbers, 9 digits; dashes stay",
			Spec: Spec{
				InputCharacterSet: digits, OutputCharacterSet: alphanumeric, PassthroughRules: []Rule{keep("-")},
				MinInputLength: 9, MaxInputLength: 9,
			},
		}, {
			Name: "credit-card", About: "card numbers of 13 to 19 digits; spaces, dashes and the last 4 digits stay",
			Spec: Spec{
				InputCharacterSet: digits, OutputCharacterSet: alphanumeric,
				PassthroughRules: []Rule{keep(" -"), {Type: KeepSuffix, Length: 4}},
				MinInputLength:   9, MaxInputLength: 15,
			},
		}, {
			Name: "phone", About: "telephone numbers of 7 to 15 digits; spaces and + - . / ( ) stay",
			Spec: Spec{
				InputCharacterSet: digits, OutputCharacterSet: alphanumeric, PassthroughRules: []Rule{keep(" +-./()")},
				MinInputLength: 7, MaxInputLength: 15,
			},
		}, {
			Name: "digits", About: "6 to 255 digits, such as account numbers",
			Spec: Spec{InputCharacterSet: digits, OutputCharacterSet: alphanumeric},
		}, {
			Name: "letters", About: "5 to 255 letters A-Z and a-z; ciphertexts have digits and punctuation too",
			Spec: Spec{
				InputCharacterSet: upperLetters + lowerLetters, OutputCharacterSet: alphanumeric + beyond, MinInputLength: 5,
			},
		}, {
			Name: "alphanum", About: "6 to 255 digits and letters; ciphertexts have punctuation too",
			Spec: Spec{InputCharacterSet: alphanumeric, OutputCharacterSet: alphanumeric + beyond, MinInputLength: 6},
		}, {
			Name: "alphanum-upper", About: "6 to 255 digits and capital letters; ciphertexts have small letters too",
			Spec: Spec{InputCharacterSet: digits + upperLetters, OutputCharacterSet: alphanumeric, MinInputLength: 6},
		}, {
			Name: "generic-string", About: "any text of up to 635 bytes; ciphertexts are letters and digits",
			Spec: Spec{DataType: GenericString, InputEncoding: Base32, MaxInputLength: 1016},
		}, {
			Name: "token", About: "any text of up to 40 bytes; ciphertexts are 64 letters and digits",
			Spec: Spec{DataType: Token},
		}, {
			Name: "integer32", About: "whole numbers of up to 8 digits; ciphertexts fit in 32 bits",
			Spec: Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32}},
		}, {
			Name: "integer64", About: "whole numbers of up to 16 digits; ciphertexts fit in 64 bits",
			Spec: Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 64}},
		}, {
			Name: "date", About: "days of the years 1 to 2738; ciphertexts are days up to the year 8628",
			Spec: Spec{DataType: Date},
		}, {
			Name: "datetime", About: "seconds of the years 1653 to 2286; ciphertexts are seconds of the years 18 to 3921",
			Spec: Spec{DataType: DateTime},
		},
	}
}

// PresetNamed returns the preset of a name. Errors are fault.Invalid.
func PresetNamed(name string) (Preset, error) {
	var names []string
	for _, p := range Presets() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Preset{}, fault.New(fault.Invalid, "no preset %q", name).WithHint("presets are %s", listed(names))
}
