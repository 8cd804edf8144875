package ciphertext

import (
	"strconv"

	"keyctl/internal/fault"
)

// Algorithm is how data is encrypted, by its number in the header.
type Algorithm byte

// The algorithms.
const (
	AES256GCM Algorithm = 0
	AES128GCM Algorithm = 1
)

// ParseAlgorithm returns the algorithm with that name, in the spelling of String, else fault.Invalid.
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, a := range []Algorithm{AES256GCM, AES128GCM} {
		if name == a.String() {
			return a, nil
		}
	}
	return 0, fault.New(fault.Invalid, "unknown algorithm").WithHint("the algorithms are %s and %s", AES256GCM, AES128GCM)
}

// String returns the name that travels on the wire. One library compares it with regard to case.
func (a Algorithm) String() string {
	switch a {
	case AES256GCM:
		return "AES-256-GCM"
	case AES128GCM:
		return "AES-128-GCM"
	}
	return "algorithm " + strconv.Itoa(int(a))
}

// KeySize returns how many bytes a data key has: 0 for an algorithm that is unknown.
func (a Algorithm) KeySize() int {
	switch a {
	case AES256GCM:
		return 32
	case AES128GCM:
		return 16
	}
	return 0
}
