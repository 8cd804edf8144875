package structured

import (
	"math"
	"math/big"
	"math/bits"
	"time"
)

// A ciphertext says which data key it is under. Encrypted text is a number below R^n, with R characters in the input set
// and n characters of text. Written with the S characters of the larger output set, the number never uses all of them in
// its first place, and what is left over there carries the number of the data key: the first character stands at index
// d + (number << bits). Longer texts leave more room, so the shortest that is allowed decides.

// largestFirst is the largest d of texts of n characters: floor((R^n - 1) / S^(n-1)).
func largestFirst(r, s, n int) int {
	largest, place := largestNumber(r, n), power(s, n-1)
	return int(largest.Quo(largest, place).Int64()) // below s, since R < S
}

// bitsOver is how many bits a first character that is at most d needs.
func bitsOver(d int) int { return bits.Len(uint(d)) }

// HighestKeyNumber is the largest number that a data key of this format can have; the first one is 0. A data key can be
// rotated as often as that, and never with 0.
func (f Format) HighestKeyNumber() int {
	r, s, n := radix(f.InputCharacterSet), radix(f.OutputCharacterSet), f.MinInputLength
	highest := (s - 1 - largestFirst(r, s, n)) >> f.MSBEncodingBits
	if room := f.room(); room != nil {
		// The ciphertext of a number is a number again, and has to fit where the plaintext was.
		step := new(big.Int).Lsh(power(s, n-1), uint(f.MSBEncodingBits))
		if fits := room.Sub(room, largestNumber(r, n)); fits.Div(fits, step).Cmp(big.NewInt(int64(highest))) < 0 {
			highest = int(fits.Int64())
		}
	}
	return highest
}

// The calendar that every library and database has: .NET knows the years 1 to 9999.
var (
	firstMoment = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastMoment  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// room is the largest magnitude that a ciphertext may have, counted from the epoch, or nil for strings. A ciphertext has
// its plaintext's sign, so for times before the epoch there has to be as much room on that side.
func (f Format) room() *big.Int {
	switch c := f.DataTypeConfig; f.DataType {
	case Integer:
		return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(c.Size-1)), big.NewInt(1))
	case Date, DateTime:
		room := int64(math.MaxInt64)
		if c.MaxTime.After(c.Epoch) {
			room = f.steps(c.Epoch, lastMoment)
		}
		if c.MinTime.Before(c.Epoch) {
			room = min(room, f.steps(firstMoment, c.Epoch))
		}
		return big.NewInt(room)
	}
	return nil
}

// steps is how many days or seconds lie between two moments. A time.Duration would not reach.
func (f Format) steps(from, to time.Time) int64 {
	seconds := to.Unix() - from.Unix()
	if f.DataType == Date {
		return seconds / secondsPerDay
	}
	return seconds
}

const secondsPerDay = 24 * 60 * 60

// shortest is the least length that libraries encrypt: FF1 wants at least a million possible texts (NIST SP 800-38G
// revision 1) of at least two characters. They reckon in floating point, and so it is done here: of all
// radices that makes a difference for 1000, where go then wants three characters and two would do.
func shortest(r int) int { return max(2, int(math.Ceil(6/math.Log10(float64(r))))) }

func power(base, exponent int) *big.Int {
	return new(big.Int).Exp(big.NewInt(int64(base)), big.NewInt(int64(exponent)), nil)
}

// largestNumber is the largest number of n digits: r^n - 1.
func largestNumber(r, n int) *big.Int {
	largest := power(r, n)
	return largest.Sub(largest, big.NewInt(1))
}
