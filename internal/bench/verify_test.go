package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	crand "crypto/rand"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
)

// BenchmarkR3 asks whether the time of a refusal tells if a credential exists: a known access key id with a wrong secret
// against an unknown one, in pairs, in random order, by Welch's t-test. Each iteration is a pair; run it with
// -benchtime 20000x. Below 4.5 a difference is not told from chance (as in dudect, Reparaz et al. 2017).
func BenchmarkR3(b *testing.B) {
	h := newHome(b, 1000)
	defer h.close(b)
	known := h.issue(b, "web-01")
	wrong, err := credential.Draw(crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	ask := func(accessKeyID string) time.Duration {
		begun := time.Now()
		verdict, err := h.local.Verify(b.Context(), keys.Question{AccessKeyID: accessKeyID, SigningKey: wrong.SigningKey})
		took := time.Since(begun)
		if err != nil || verdict.Reason != keys.ReasonUnknown {
			b.Fatalf("Verify = %v, %v, want a refusal as unknown", verdict, err)
		}
		return took
	}
	for range 200 {
		ask(known)
		ask(wrong.AccessKeyID)
	}
	var ofKnown, ofUnknown samples
	for b.Loop() {
		if rand.IntN(2) == 0 {
			ofKnown = append(ofKnown, ask(known))
			ofUnknown = append(ofUnknown, ask(wrong.AccessKeyID))
		} else {
			ofUnknown = append(ofUnknown, ask(wrong.AccessKeyID))
			ofKnown = append(ofKnown, ask(known))
		}
	}
	f := figure{what: "R3: wrong secret to unknown id", keyctl: ofKnown.median(), bare: ofUnknown.median(), limit: 4.5, unit: "|t| %.1f"}
	f.value = max(welch(ofKnown, ofUnknown), welch(cropped(ofKnown, ofUnknown)))
	record(b, f, "t")
	b.Logf("medians %s and %s of %d pairs", ofKnown.median(), ofUnknown.median(), len(ofKnown))
}

// issue makes a key the way keyctl does and returns its access key id.
func (h home) issue(b *testing.B, name string) string {
	b.Helper()
	cred, err := credential.Draw(crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	pair, err := credential.GenerateKeyPair(cred.CryptoAccessKey)
	if err != nil {
		b.Fatal(err)
	}
	pending, err := h.local.CreateKey(b.Context(), keys.NewKey{Name: name, Offer: keys.NewOffer(cred, pair)})
	if err != nil {
		b.Fatal(err)
	}
	proof := credential.Proof(cred.SigningKey, pending.KeyID, cred.AccessKeyID, pending.Challenge)
	if _, err := h.local.Prove(b.Context(), cred.AccessKeyID, proof); err != nil {
		b.Fatal(err)
	}
	return cred.AccessKeyID
}

// welch is the absolute value of Welch's t for two sets of samples.
func welch(x, y samples) float64 {
	meanX, varX := moments(x)
	meanY, varY := moments(y)
	spread := math.Sqrt(varX/float64(len(x)) + varY/float64(len(y)))
	if spread == 0 {
		return 0
	}
	return math.Abs(meanX-meanY) / spread
}

// moments are the mean and the variance, in nanoseconds.
func moments(s samples) (mean, variance float64) {
	for _, d := range s {
		mean += float64(d) / float64(len(s))
	}
	for _, d := range s {
		variance += (float64(d) - mean) * (float64(d) - mean) / float64(max(1, len(s)-1))
	}
	return mean, variance
}

// cropped leaves out what is slower than nineteen in twenty of all samples: interruptions by other work, which hide
// differences.
func cropped(x, y samples) (samples, samples) {
	all := slices.Concat(x, y)
	slices.Sort(all)
	limit := all[len(all)*19/20]
	slow := func(d time.Duration) bool { return d > limit }
	return slices.DeleteFunc(slices.Clone(x), slow), slices.DeleteFunc(slices.Clone(y), slow)
}
