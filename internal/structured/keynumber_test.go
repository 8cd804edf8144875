package structured

import (
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The first three are records of Ubiq's own that client libraries carry in their tests; the others are reckoned by hand.
func TestHighestKeyNumber(t *testing.T) {
	bits := func(n int) *int { return &n }
	tests := []struct {
		name          string
		spec          Spec
		bits, highest int
	}{
		{"36 to 62", Spec{InputCharacterSet: han(36), OutputCharacterSet: han(62), MinInputLength: 5}, 3, 7},
		{"10 to 12", Spec{InputCharacterSet: han(10), OutputCharacterSet: han(12)}, 3, 0},
		{"10 to 12, a date", Spec{DataType: Date, OutputCharacterSet: numerals[:12]}, 3, 0},
		{"10 to 62", Spec{InputCharacterSet: han(10), OutputCharacterSet: han(62)}, 0, 61},
		{"10 to 62 with 3 bits", Spec{InputCharacterSet: han(10), OutputCharacterSet: han(62), MSBEncodingBits: bits(3)}, 3, 7},
		{"10 to 62 with 16 bits", Spec{InputCharacterSet: han(10), OutputCharacterSet: han(62), MSBEncodingBits: bits(16)}, 16, 0},
		{"2 to 3", Spec{InputCharacterSet: han(2), OutputCharacterSet: han(3)}, 0, 2},
		{"the most characters", Spec{InputCharacterSet: han(20000), OutputCharacterSet: han(20001)}, 15, 0},
		// 14^8 - 1 is below 2^31; 15 characters would leave 12 keys, for 12 * 15^7 + 99999999 is above it.
		{"integers of 32 bits", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32}}, 0, 13},
		{"integers to base 15", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32}, OutputCharacterSet: numerals}, 0, 11},
		{"integers of 64 bits", Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 64}}, 0, 13},
		// The years end before the alphabet does: with 3 * 2 * 14^5 + 999999 days.
		{"dates", Spec{DataType: Date}, 1, 2},
		{"times", Spec{DataType: DateTime}, 1, 5},
		// 14^9 seconds are 654 years. With the 317 of the value itself, twice that fits between the year 1 and 1970.
		{"times to base 14", Spec{DataType: DateTime, OutputCharacterSet: numerals[:14]}, 0, 2},
		// Nothing before the epoch, so that only the end of the calendar counts, 8030 years on.
		{"times after 1970", Spec{DataType: DateTime, DataTypeConfig: ConfigSpec{MinTime: &[]time.Time{time.Unix(0, 0)}[0]}, OutputCharacterSet: numerals[:14]}, 0, 11},
	}
	for _, test := range tests {
		f := mustNew(t, test.spec)
		if got := f.HighestKeyNumber(); got != test.highest || f.MSBEncodingBits != test.bits {
			t.Errorf("%s: %d bits and the highest key number %d, want %d and %d", test.name, f.MSBEncodingBits, got, test.bits, test.highest)
		}
	}
}

// Up to the highest key number every first character stays in the alphabet and tells its key, for texts of every length;
// with the next number one would not.
func TestFirstCharactersStayInTheAlphabet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := mustNew(rt, anySets(rt))
		r, s := radix(f.InputCharacterSet), radix(f.OutputCharacterSet)
		highest := f.HighestKeyNumber()
		d := firstDigit(r, s, f.MinInputLength)
		for length := f.MinInputLength; length < f.MinInputLength+4; length++ {
			if longer := firstDigit(r, s, length); longer > d {
				rt.Fatalf("%d characters begin with %d, and %d with %d", f.MinInputLength, d, length, longer)
			}
		}
		for number := range highest + 1 {
			for first := range d + 1 {
				if index := first + number<<f.MSBEncodingBits; index >= s || index>>f.MSBEncodingBits != number {
					rt.Fatalf("key %d puts %d at %d of %d, which tells key %d", number, first, index, s, index>>f.MSBEncodingBits)
				}
			}
		}
		if index := d + (highest+1)<<f.MSBEncodingBits; index < s {
			rt.Fatalf("key %d would stay at %d of %d, and %d is the highest", highest+1, index, s, highest)
		}
	})
}

// anySets is a spec of random sizes that New takes.
func anySets(rt *rapid.T) Spec {
	r := rapid.OneOf(rapid.IntRange(2, 100), rapid.IntRange(2, 10000)).Draw(rt, "input")
	s := r + rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(1, 10000)).Draw(rt, "more in the output")
	spec := Spec{
		InputCharacterSet: han(r), OutputCharacterSet: han(s),
		MinInputLength: shortest(r) + rapid.IntRange(0, 30).Draw(rt, "longer"),
	}
	if rapid.Bool().Draw(rt, "more bits") {
		bits := mustNew(rt, spec).MSBEncodingBits
		bits += rapid.IntRange(0, maxBits-bits).Draw(rt, "so many")
		spec.MSBEncodingBits = &bits
	}
	return spec
}

// firstDigit writes the largest number of n digits in base r to base s, and returns the first of n digits.
func firstDigit(r, s, n int) int {
	number, digit := big.NewInt(1), new(big.Int)
	for range n {
		number.Mul(number, big.NewInt(int64(r)))
	}
	number.Sub(number, big.NewInt(1))
	for range n {
		number.DivMod(number, big.NewInt(int64(s)), digit)
	}
	return int(digit.Int64())
}

// What libraries reckon in floating point is never below what FF1 needs, and but for one radix the same.
func TestShortest(t *testing.T) {
	for r := 2; r <= 1<<16; r++ {
		exact := 2
		for n := r * r; n < 1000000; n *= r {
			exact++
		}
		if got := shortest(r); got < exact || got > exact && r != 1000 {
			t.Errorf("shortest(%d) = %d, want %d", r, got, exact)
		}
	}
}

// Numbers stop where the largest ciphertext no longer fits in their type, or with the alphabet.
func TestNumbersStayInTheirType(t *testing.T) {
	day := int64(secondsPerDay)
	end, start := lastMoment.Unix(), firstMoment.Unix()
	types := []struct {
		spec Spec
		room int64
	}{
		{Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 32}}, 1<<31 - 1},
		{Spec{DataType: Integer, DataTypeConfig: ConfigSpec{Size: 64}}, 1<<63 - 1},
		{Spec{DataType: Date}, (end - start) / day},
		{Spec{DataType: DateTime}, -start},
	}
	for _, test := range types {
		for s := 11; s <= len(numerals); s++ {
			test.spec.OutputCharacterSet = numerals[:s]
			f, err := New(test.spec, counted())
			if err != nil {
				continue // 64 bits to bases that .NET cannot reckon with
			}
			largest := func(number int) *big.Int {
				value := new(big.Int).Mul(big.NewInt(int64(number<<f.MSBEncodingBits)), power(s, f.MinInputLength-1))
				return value.Add(value, largestNumber(10, f.MinInputLength))
			}
			highest, room := f.HighestKeyNumber(), big.NewInt(test.room)
			fits, alphabetEnds := largest(highest+1).Cmp(room) <= 0, firstDigit(10, s, f.MinInputLength)+(highest+1)<<f.MSBEncodingBits >= s
			if largest(highest).Cmp(room) > 0 || fits && !alphabetEnds {
				t.Errorf("%s to base %d: %d is the highest key number; its values go to %v, the next one's to %v, and there is room to %v",
					f.DataType, s, highest, largest(highest), largest(highest+1), room)
			}
		}
	}
}
