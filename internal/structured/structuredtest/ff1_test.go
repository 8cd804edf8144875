package structuredtest

import (
	"encoding/hex"
	"strings"
	"testing"
)

// The nine FF1 samples that NIST publishes beside SP 800-38G (FF1samples.pdf).
func TestFF1AgainstNIST(t *testing.T) {
	const (
		key128  = "2B7E151628AED2A6ABF7158809CF4F3C"
		key192  = key128 + "EF4359D8D580AA4F"
		key256  = key192 + "7F036D6F04FC6A94"
		tweak10 = "39383736353433323130"
		tweak11 = "3737373770717273373737"
		digits  = "0123456789"
		letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	)
	tests := []struct{ name, key, tweak, alphabet, plain, cipher string }{
		{"sample 1", key128, "", digits, "0123456789", "2433477484"},
		{"sample 2", key128, tweak10, digits, "0123456789", "6124200773"},
		{"sample 3", key128, tweak11, letters, "0123456789abcdefghi", "a9tv40mll9kdu509eum"},
		{"sample 4", key192, "", digits, "0123456789", "2830668132"},
		{"sample 5", key192, tweak10, digits, "0123456789", "2496655549"},
		{"sample 6", key192, tweak11, letters, "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"},
		{"sample 7", key256, "", digits, "0123456789", "6657667009"},
		{"sample 8", key256, tweak10, digits, "0123456789", "1001623463"},
		{"sample 9", key256, tweak11, letters, "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"},
	}
	for _, test := range tests {
		key, tweak := fromHex(t, test.key), fromHex(t, test.tweak)
		for _, direction := range []struct {
			encrypt  bool
			in, want string
		}{{true, test.plain, test.cipher}, {false, test.cipher, test.plain}} {
			var x []int
			for _, c := range direction.in {
				x = append(x, strings.IndexRune(test.alphabet, c))
			}
			y, err := ff1(key, tweak, len(test.alphabet), x, direction.encrypt)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, numeral := range y {
				got.WriteByte(test.alphabet[numeral])
			}
			if got.String() != direction.want {
				t.Errorf("%s: ff1(%s, encrypt %v) = %s, want %s", test.name, direction.in, direction.encrypt, got.String(), direction.want)
			}
		}
	}
}

func fromHex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
