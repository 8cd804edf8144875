package structuredtest

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"math/big"
)

// ff1 is FF1 of NIST SP 800-38G, algorithms 7 and 8, over numerals below radix, with AES. The names are those of the
// standard. It is written for being compared with the standard, and is neither fast nor constant in time.
func ff1(key, tweak []byte, radix int, x []int, encrypt bool) ([]int, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	n, t := len(x), len(tweak)
	if radix < 2 || radix > 1<<16 || n < 2 {
		return nil, fmt.Errorf("ff1: %d numerals to the radix %d", n, radix)
	}
	u := n / 2
	v := n - u
	a, b := x[:u], x[u:]

	bytesOfB := (new(big.Int).Sub(power(radix, v), big.NewInt(1)).BitLen() + 7) / 8
	d := 4*((bytesOfB+3)/4) + 4

	p := []byte{1, 2, 1, byte(radix >> 16), byte(radix >> 8), byte(radix), 10, byte(u)}
	p = binary.BigEndian.AppendUint32(p, uint32(n))
	p = binary.BigEndian.AppendUint32(p, uint32(t))

	// round returns y of one round for the half that is not changed in it.
	round := func(i int, half []int) *big.Int {
		q := append([]byte{}, tweak...)
		for (len(q)+1+bytesOfB)%aes.BlockSize != 0 {
			q = append(q, 0)
		}
		q = append(q, byte(i))
		q = append(q, number(half, radix).FillBytes(make([]byte, bytesOfB))...)

		r := make([]byte, aes.BlockSize) // PRF: the last block of CBC with no IV
		for pq := append(append([]byte{}, p...), q...); len(pq) > 0; pq = pq[aes.BlockSize:] {
			for j := range r {
				r[j] ^= pq[j]
			}
			block.Encrypt(r, r)
		}
		s := append([]byte{}, r...)
		for j := uint64(1); len(s) < d; j++ {
			next := append([]byte{}, r...)
			low := next[aes.BlockSize-8:]
			binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^j)
			block.Encrypt(next, next)
			s = append(s, next...)
		}
		return new(big.Int).SetBytes(s[:d])
	}
	for k := range 10 {
		i := k
		if !encrypt {
			i = 9 - k
		}
		m := u
		if i%2 == 1 {
			m = v
		}
		c := new(big.Int)
		if encrypt {
			c.Add(number(a, radix), round(i, b))
			a, b = b, numerals(c.Mod(c, power(radix, m)), radix, m)
		} else {
			c.Sub(number(b, radix), round(i, a))
			b, a = a, numerals(c.Mod(c, power(radix, m)), radix, m)
		}
	}
	return append(append([]int{}, a...), b...), nil
}

func power(radix, m int) *big.Int {
	return new(big.Int).Exp(big.NewInt(int64(radix)), big.NewInt(int64(m)), nil)
}

// number is NUM of the standard: the value of numerals, the most significant one first.
func number(x []int, radix int) *big.Int {
	value, base := new(big.Int), big.NewInt(int64(radix))
	for _, numeral := range x {
		value.Mul(value, base).Add(value, big.NewInt(int64(numeral)))
	}
	return value
}

// numerals is STR of the standard: m numerals for a value. A value that needs more loses the first ones.
func numerals(value *big.Int, radix, m int) []int {
	x, rest, base, remainder := make([]int, m), new(big.Int).Set(value), big.NewInt(int64(radix)), new(big.Int)
	for i := m - 1; i >= 0; i-- {
		rest.QuoRem(rest, base, remainder)
		x[i] = int(remainder.Int64())
	}
	return x
}
