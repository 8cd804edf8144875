package keystest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// Canaries are secrets whose bytes must not turn up where they do not belong (R2).
type Canaries struct {
	t       testing.TB
	needles map[string][]byte // what it is → bytes to look for
}

// NewCanaries returns none yet.
func NewCanaries(t testing.TB) *Canaries { return &Canaries{t, map[string][]byte{}} }

// Add adds a secret: as text and, if it encodes something, what it encodes.
func (c *Canaries) Add(name, text string, raw []byte) {
	c.encodings(name, []byte(text))
	c.encodings(name+", half 1", []byte(text[:len(text)/2]))
	c.encodings(name+", half 2", []byte(text[len(text)/2:]))
	if raw != nil {
		c.encodings(name+", decoded", raw)
		c.encodings(name+", decoded, half 1", raw[:len(raw)/2])
		c.encodings(name+", decoded, half 2", raw[len(raw)/2:])
	}
}

// encodings adds a value in the forms that programs bring bytes into. In base64 a value looks different at each of three
// offsets, and shares its outer digits with its neighbours.
func (c *Canaries) encodings(name string, value []byte) {
	c.needles[name] = value
	c.needles[name+", hex"] = []byte(hex.EncodeToString(value))
	c.needles[name+", HEX"] = []byte(strings.ToUpper(hex.EncodeToString(value)))
	c.needles[name+", URL"] = []byte(url.QueryEscape(string(value)))
	for offset := range 3 {
		shifted := append(make([]byte, offset), value...)
		for form, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := encoding.EncodeToString(shifted)
			first, last := (offset*8+5)/6, len(shifted)*8/6
			c.needles[fmt.Sprintf("%s, %s at %d", name, form, offset)] = []byte(text[first:last])
		}
	}
}

// Found tells which canary is in some content, in any of its forms; empty when none is.
func (c *Canaries) Found(content []byte) string {
	for name, needle := range c.needles {
		if bytes.Contains(content, needle) {
			return name // which of its many forms does not matter
		}
	}
	return ""
}

// Absent looks for every canary in some content.
func (c *Canaries) Absent(where string, content []byte) {
	c.t.Helper()
	if name := c.Found(content); name != "" {
		c.t.Errorf("%s holds the %s", where, name)
	}
}
