package signature

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// TestR19_WhatIsRefused drops, repeats, reorders and re-cases each part. What is "signed" once more was done so by the
// holder of the key, and is refused all the same; everything else is somebody in between.
func TestR19_WhatIsRefused(t *testing.T) {
	a, c := vectorA(), vectorC()
	list := strings.Trim(strings.TrimPrefix(a.params[3], "headers="), `"`)
	tests := map[string]message{
		"another method":              func() message { m := a; m.line = strings.Replace(m.line, "POST", "PUT", 1); return m }(),
		"the method in lower case":    func() message { m := a; m.line = strings.Replace(m.line, "POST", "post", 1); return m }(),
		"the path in another case":    func() message { m := a; m.line = strings.Replace(m.line, "key", "KEY", 1); return m }(),
		"a slash more":                func() message { m := a; m.line = strings.Replace(m.line, "/key", "//key", 1); return m }(),
		"a query":                     func() message { m := a; m.line = strings.Replace(m.line, "key", "key?", 1); return m }(),
		"another query":               func() message { m := c; m.line = strings.Replace(m.line, "SSN", "SSM", 1); return m }(),
		"the query in another order":  func() message { m := c; m.line = "GET /api/v0/ffs?papi=" + keyID + "&ffs_name=SSN HTTP/1.1"; return m }(),
		"the query encoded":           func() message { m := c; m.line = strings.Replace(m.line, "SSN", "%53SN", 1); return m }(),
		"the target with a host":      func() message { m := c; m.line = "GET http://" + host + search + " HTTP/1.1"; return m }(),
		"no host, signed as empty":    c.with("Host", "").signed("(created) (request-target) digest host"),
		"another host":                a.with("Host", "127.0.0.1:8081"),
		"a host without its port":     a.with("Host", "127.0.0.1"),
		"another body":                func() message { m := a; m.body = strings.Replace(post, "1", "2", 1); return m }(),
		"another body and its digest": func() message { m := a; m.body = strings.Replace(post, "1", "2", 1); return m.digested() }(),
		"no body":                     func() message { m := a.with("Content-Length", "0"); m.body = ""; return m }(),
		"a body where none was":       func() message { m := c.with("Content-Length", "28"); m.body = post; return m }(),
		"no digest":                   a.with("Digest", ""),
		"a digest with SHA-256": a.with("Digest", "SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=").
			signed(list),
		"a digest in lower case":         a.with("Digest", strings.ToLower(postDigest)).signed(list),
		"the digest's name re-cased":     a.with("Digest", strings.Replace(postDigest, "SHA", "sha", 1)).signed(list),
		"two digests in one":             a.with("Digest", postDigest+","+postDigest).signed(list),
		"no content type":                a.with("Content-Type", ""),
		"another content type":           a.with("Content-Type", "text/plain"),
		"a re-cased content type":        a.with("Content-Type", "Application/JSON"),
		"no date":                        a.with("Date", ""),
		"another date":                   a.with("Date", strings.Replace(date, "2026", "2027", 1)),
		"no content length":              a.with("Content-Length", ""),
		"a second later":                 a.param(2, "created=1767225601"),
		"no time of creation":            a.param(2, ""),
		"no list":                        a.param(3, ""),
		"no signature":                   a.param(4, ""),
		"no Signature header":            func() message { m := a; m.params = nil; return m }(),
		"another key id":                 a.param(0, `keyId="`+strings.ToLower(keyID)+`"`),
		"half a signature":               a.param(4, a.params[4][:60]+`"`),
		"a signature in another case":    a.param(4, `signature="`+strings.ToUpper(a.params[4][11:])),
		"a signature without padding":    a.param(4, strings.Replace(a.params[4], "==", "", 1)),
		"a signature with other padding": a.param(4, strings.Replace(a.params[4], "Vw==", "Vx==", 1)),
		"another algorithm":              a.param(1, `algorithm="hmac-sha256"`),
		"an algorithm by another name":   a.param(1, `algorithm="hs2019"`),
		"an algorithm in another case":   a.param(1, `algorithm="HMAC-SHA512"`),
		"no algorithm at all":            a.param(1, `algorithm="none"`),
		"a listed header that is not there, signed as empty": a.signed(list + " x-trace"),
		"a length that is not there, signed as zero":         c.with("X-Content-Length", "0").signed(list),
		"a name for a pseudo-header of HTTP/2":               a.signed(list + " path"),
	}
	for _, name := range strings.Fields(list) {
		without := strings.Join(slices.DeleteFunc(strings.Fields(list), func(n string) bool { return n == name }), " ")
		tests["the list without "+name] = a.param(3, `headers="`+without+`"`)
		if name != "date" && name != "content-length" {
			tests["signed without "+name] = a.signed(without)
		}
	}
	names := strings.Fields(list)
	for i := range len(names) - 1 {
		swapped := slices.Clone(names)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		tests["the list with "+names[i]+" one later"] = a.param(3, `headers="`+strings.Join(swapped, " ")+`"`)
	}
	for _, line := range a.lines {
		if strings.HasPrefix(line, "Host") || strings.HasPrefix(line, "Content-Length") {
			continue // net/http itself refuses a second host, and makes one of two equal lengths
		}
		m := a
		m.lines = append(slices.Clone(a.lines), line)
		tests["a second line "+line[:6]] = m.signed(list)
	}
	want := refused().Error()
	for name, m := range tests {
		err := check(m.read(t), signingKey, now)
		if !fault.Is(err, fault.Unauthenticated) || err.Error() != want {
			t.Errorf("%s: %v, want the refusal, of\n%s", name, err, m)
		}
	}
	for what, key := range map[string]credential.Secret{
		"another key":                      credential.NewSecret(signingKey.Reveal() + "m"),
		"a key that begins alike":          credential.NewSecret(signingKey.Reveal()[:43]),
		"the key of an id that nobody has": {},
	} {
		if err := check(a.read(t), key, now); !fault.Is(err, fault.Unauthenticated) || err.Error() != want {
			t.Errorf("%s: %v, want the refusal", what, err)
		}
	}
}

// Whoever signs with nothing, or with what stands for it, gets nowhere with an id that nobody has.
func TestTheZeroSecretSignsNothing(t *testing.T) {
	for _, key := range []credential.Secret{{}, nobody} {
		r := vectorC().read(t)
		Sign(r, sha512.Sum512(nil), keyID, key, GoOrder, now)
		if err := check(r, credential.Secret{}, now); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("Check = %v, want the refusal", err)
		}
	}
}

// TestR19_Malformed has what cannot be understood, and so says nothing about which keys there are.
func TestR19_Malformed(t *testing.T) {
	a := vectorA()
	list := strings.Trim(strings.TrimPrefix(a.params[3], "headers="), `"`)
	twice := a
	twice.lines = append(slices.Clone(a.lines), "Signature: "+strings.Join(a.params, ", "))
	tests := map[string]message{
		"two headers":                        twice,
		"an empty header":                    a.raw(""),
		"no parameters":                      a.raw("hmac"),
		"a scheme before the parameters":     a.raw("Signature " + strings.Join(a.params, ", ")),
		"a comma at the end":                 a.raw(strings.Join(a.params, ", ") + ","),
		"a comma at the beginning":           a.raw(", " + strings.Join(a.params, ", ")),
		"two commas":                         a.raw(strings.Join(a.params, ",, ")),
		"no commas":                          a.raw(strings.Join(a.params, " ")),
		"a space before the comma":           a.raw(strings.Join(a.params, " , ")),
		"semicolons":                         a.raw(strings.Join(a.params, "; ")),
		"an open quote":                      a.raw(strings.TrimSuffix(strings.Join(a.params, ", "), `"`)),
		"something after a quote":            a.param(4, a.params[4]+"x"),
		"too long":                           a.param(4, `signature="`+strings.Repeat("A", maxHeader)+`"`),
		"an unknown parameter":               a.param(1, `expires="1767225900"`),
		"a parameter without a value":        a.param(1, "algorithm"),
		"an empty parameter":                 a.param(1, `algorithm=""`),
		"no key id":                          a.param(0, ""),
		"an empty key id":                    a.param(0, `keyId=""`),
		"a key id of one character":          a.param(0, `keyId="1"`),
		"a key id of 23 characters":          a.param(0, `keyId="`+keyID[1:]+`"`),
		"a key id of 25 characters":          a.param(0, `keyId="`+keyID+`0"`),
		"a key id in base64":                 a.param(0, `keyId="AKEXAMPLE0000000000+/000"`),
		"a key id that is not ASCII":         a.param(0, `keyId="AKEXAMPLE00000000000000é"`),
		"a key id with one quote":            a.param(0, "keyId="+keyID+`"`),
		"a key id without quotes":            a.param(0, "keyId="+keyID),
		"a time in quotes":                   a.param(2, `created="`+created+`"`),
		"a negative time":                    a.param(2, "created=-1"),
		"a time with a fraction":             a.param(2, "created=1767225600.5"),
		"a time with a sign":                 a.param(2, "created=+1767225600"),
		"a time with zeros before it":        a.param(2, "created=01767225600"),
		"a time that is not for this planet": a.param(2, "created=9999999999999999999999"),
		"an empty list":                      a.param(3, `headers=""`),
		"a list of a space":                  a.param(3, `headers=" "`),
		"two spaces in the list":             a.param(3, strings.Replace(a.params[3], " ", "  ", 1)),
		"a comma in the list":                a.param(3, strings.ReplaceAll(a.params[3], " ", ",")),
		"a colon in the list":                a.param(3, strings.Replace(a.params[3], "host", "host:", 1)),
		"another pseudo-header":              a.param(3, strings.Replace(a.params[3], "(created)", "(expires)", 1)),
		"more names than there may be":       manyNames(maxNames + 1),
		"more signed than there may be":      a.with("X-Long", strings.Repeat("v", maxSigned)).signed(list + " x-long"),
	}
	for i, p := range a.params {
		name, value, _ := strings.Cut(p, "=")
		m := a
		m.params = append(slices.Clone(a.params), p)
		tests["two parameters "+name] = m
		tests["the parameter "+name+" in upper case"] = a.param(i, strings.ToUpper(name)+"="+value)
	}
	for _, name := range strings.Fields(list) {
		tests["the name "+name+" twice"] = a.signed(list + " " + name)
		tests["the name "+name+" in upper case"] = a.signed(strings.Replace(list, name, strings.ToUpper(name), 1))
	}
	for name, m := range tests {
		q, err := Parse(m.read(t))
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: Parse = %v, want invalid, of\n%s", name, err, m)
			continue
		}
		// It goes into a body that one library passes through a format function.
		if text := err.Error(); strings.ContainsAny(text, "%\n") || strings.Contains(text, signingKey.Reveal()) ||
			strings.Contains(text, keyID) {
			t.Errorf("%s: the message is %q", name, text)
		}
		if err := q.Check(signingKey, sha512.Sum512([]byte(post)), now, Skew); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: Check of what did not parse = %v, want the refusal", name, err)
		}
	}
}

// raw returns the message with that text as its Signature header.
func (m message) raw(text string) message {
	m.params = []string{text}
	return m
}

// A header that did not come over HTTP could hold a line that looks like another signed header.
func TestR19_NoLineIsTwo(t *testing.T) {
	r := vectorA().read(t)
	forged := vectorA().read(t)
	forged.Header.Set("Content-Type", "application/json\ndate: "+date)
	forged.Header.Set("Date", "Fri, 02 Jan 2026 00:00:00 GMT")
	forged.Header.Set("Signature", strings.Replace(r.Header.Get("Signature"), " date", "", 1))
	if err := check(forged, signingKey, now); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a value of two lines: %v, want the refusal", err)
	}
	q, err := Parse(forged)
	if err != nil {
		t.Fatal(err)
	}
	honest, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(q.signed, honest.signed) {
		t.Error("the forgery is not signed as the original is, so this test shows nothing")
	}
}

// Every refusal after Parse allocates as much as any other: none leaves the path early.
func TestRefusalsTakeTheSameWork(t *testing.T) {
	body := sha512.Sum512([]byte(post))
	q, err := Parse(vectorA().read(t))
	if err != nil {
		t.Fatal(err)
	}
	incomplete := q
	incomplete.complete = false
	work := func(q Request, key credential.Secret, body [sha512.Size]byte, now time.Time) float64 {
		return testing.AllocsPerRun(20, func() {
			if q.Check(key, body, now, Skew) == nil {
				t.Error("it holds")
			}
		})
	}
	other := credential.NewSecret(strings.Repeat("x", len(signingKey.Reveal())))
	want := work(q, other, body, now)
	for what, got := range map[string]float64{
		"another body":  work(q, signingKey, emptyBody, now),
		"another time":  work(q, signingKey, body, now.Add(time.Hour)),
		"too few parts": work(incomplete, signingKey, body, now),
		"unknown id":    work(q, credential.Secret{}, body, now),
	} {
		if got != want {
			t.Errorf("%s: %v allocations, want %v as for another key", what, got, want)
		}
	}
}

// FuzzParse lets anything stand where a client's words go. It must not panic, and nothing may hold but what was signed, which
// is vector A and vector C.
func FuzzParse(f *testing.F) {
	for _, m := range []message{vectorA(), vectorC(), manyNames(9), vectorA().signed("digest host (created) (request-target)")} {
		r := m.read(f)
		f.Add(r.Method, r.RequestURI, r.Host, r.Header.Get("Content-Type"), r.Header.Get("Date"), r.Header.Get("Digest"),
			r.Header.Get("Signature"), []byte(m.body))
	}
	f.Fuzz(func(t *testing.T, method, target, host, typ, date, digest, signature string, body []byte) {
		r := &http.Request{
			Method: method, RequestURI: target, Host: host, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
			Header: http.Header{"Digest": {digest}, "Signature": {signature}},
		}
		if typ != "" {
			r.Header["Content-Type"] = []string{typ}
		}
		if date != "" {
			r.Header["Date"] = []string{date}
		}
		err := check(r, signingKey, now)
		if err != nil && !fault.Is(err, fault.Unauthenticated) && !fault.Is(err, fault.Invalid) {
			t.Fatalf("%v", err)
		}
		if err != nil {
			return
		}
		got := fmt.Sprintf("%q", []string{method, target, host, digest, string(body)})
		want := []string{
			fmt.Sprintf("%q", []string{"POST", "/api/v0/encryption/key", "127.0.0.1:8080", postDigest, post}),
			fmt.Sprintf("%q", []string{"GET", search, "127.0.0.1:8080", emptyDigest, ""}),
		}
		if !slices.Contains(want, got) {
			t.Fatalf("it holds, and nobody signed %s", got)
		}
	})
}

// FuzzSign signs anything; it holds, and no longer does when any of it is changed.
func FuzzSign(f *testing.F) {
	f.Add("POST", "/api/v0/encryption/key", "127.0.0.1:8080", "application/json", []byte(post), byte(0))
	f.Add("GET", search, "keys.example.com", "", []byte{}, byte(1))
	f.Add("GET", "/api/v0/ffs?ffs_name=a+b/c&papi=p+q/r==", "[::1]:8080", "application/json", []byte{}, byte(2))
	f.Fuzz(func(t *testing.T, method, target, host, typ string, body []byte, which byte) {
		if method == "" || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || target == "" || host == "" || typ == "" ||
			strings.Contains(target+host+typ, "\n") || len(target+host+typ) > maxSigned/2 {
			t.Skip()
		}
		r := &http.Request{Method: method, RequestURI: target, Host: host, ContentLength: int64(len(body)), Header: http.Header{}}
		r.Header.Set("Content-Type", typ)
		sum := sha512.Sum512(body)
		order := []Order{GoOrder, NodeOrder, JavaOrder}[which%3]
		Sign(r, sum, keyID, signingKey, order, now)
		hold := func() bool {
			q, err := Parse(r)
			return err == nil && q.KeyID == keyID && q.Check(signingKey, sum, now, Skew) == nil
		}
		if !hold() {
			t.Fatalf("it does not hold: %v", r.Header)
		}
		for what, part := range map[string]*string{
			"method": &r.Method, "target": &r.RequestURI, "host": &r.Host, "type": &r.Header["Content-Type"][0], "digest": &r.Header["Digest"][0],
		} {
			kept := *part
			*part += "X"
			if hold() {
				t.Errorf("it holds with another %s", what)
			}
			*part = kept
		}
		sum[which%sha512.Size] ^= 1
		if hold() {
			t.Error("it holds with another body")
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for name, m := range map[string]message{"post": vectorA(), "get": vectorC()} {
		b.Run(name, func(b *testing.B) {
			r := m.read(b)
			b.ReportAllocs()
			for b.Loop() {
				q, err := Parse(r)
				if err != nil {
					b.Fatal(err)
				}
				if err := q.Check(signingKey, sha512.Sum512([]byte(m.body)), now, Skew); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	r := vectorA().read(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	r := vectorA().read(b)
	sum := sha512.Sum512([]byte(post))
	b.ReportAllocs()
	for b.Loop() {
		Sign(r, sum, keyID, signingKey, GoOrder, now)
	}
}
