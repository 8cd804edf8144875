package keys_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// recorder is a real store that writes down what is asked of it.
type recorder struct {
	keys.Store
	calls []string
}

func (r *recorder) View(ctx context.Context, fn func(keys.Tx) error) error {
	return r.Store.View(ctx, func(tx keys.Tx) error { return fn(recordingTx{tx, r}) })
}

type recordingTx struct {
	keys.Tx
	r *recorder
}

func (t recordingTx) note(call string) { t.r.calls = append(t.r.calls, call) }

func (t recordingTx) Candidate(id string) (keys.Candidate, error) {
	t.note("Candidate")
	return t.Tx.Candidate(id)
}

func (t recordingTx) Credential(id string) (keys.Credential, error) {
	t.note("Credential")
	return t.Tx.Credential(id)
}

func (t recordingTx) Credentials(keyID string) ([]keys.Credential, error) {
	t.note("Credentials")
	return t.Tx.Credentials(keyID)
}

func (t recordingTx) Key(id string) (keys.KeyRecord, error) {
	t.note("Key")
	return t.Tx.Key(id)
}

func (t recordingTx) KeyByName(name string) (keys.KeyRecord, error) {
	t.note("KeyByName")
	return t.Tx.KeyByName(name)
}

func (t recordingTx) KeysByIDPrefix(prefix string, limit int) ([]keys.KeyRecord, error) {
	t.note("KeysByIDPrefix")
	return t.Tx.KeysByIDPrefix(prefix, limit)
}

func (t recordingTx) Keys(page keys.KeyPage) ([]keys.KeyRecord, error) {
	t.note("Keys")
	return t.Tx.Keys(page)
}

func (t recordingTx) Material(id string) (keys.Material, error) {
	t.note("Material")
	return t.Tx.Material(id)
}

// Whether an id is unknown, wiped, or known and the secret wrong cannot be told from what Verify does: it looks up one candidate and
// scans nothing, whatever it finds; then it opens one secret, of the same length, and compares once.
// (How long that takes is measured in the benchmarks.)
func TestR3_VerifyDoesTheSameWork(t *testing.T) {
	p := newPlace(t)
	r := &recorder{Store: p.openStore(t)}
	l := p.on(t, r)
	d, _ := newKey(t, l, "web-01")
	deleted, key := newKey(t, l, "web-02")
	if _, err := l.DeleteKey(t.Context(), key.KeyID); err != nil {
		t.Fatal(err)
	}
	wrong := d.Question()
	wrong.SigningKey = keystest.Draw(t).SigningKey

	// What is opened where there is nothing to open: a credential that nobody has, and that lets nobody in.
	var decoy, known keys.Credential
	err := r.Store.View(t.Context(), func(tx keys.Tx) error {
		meta, err := tx.Meta()
		if err != nil {
			return err
		}
		if decoy, err = tx.Credential(meta.Decoy); err != nil {
			return err
		}
		known, err = tx.Credential(d.AccessKeyID)
		return err
	})
	if err != nil || len(decoy.SigningKey) != len(known.SigningKey) {
		t.Fatalf("the decoy's sealed secret has %d bytes (%v), a real one %d", len(decoy.SigningKey), err, len(known.SigningKey))
	}
	slot := envelope.Slot{Table: "credentials", Row: decoy.AccessKeyID, Column: "signing_key"}
	secret, err := p.keyring(t, r.Store).Open(slot, decoy.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	nobodys := credential.NewSecret(string(secret))

	for _, c := range []struct {
		what string
		q    keys.Question
	}{
		{"an unknown id", keystest.Draw(t).Question()},
		{"a wrong secret", wrong},
		{"a deleted key", deleted.Question()},
		{"an unknown id with the decoy's secret", keys.Question{AccessKeyID: keystest.Draw(t).AccessKeyID, SigningKey: nobodys}},
		{"a deleted key with the decoy's secret", keys.Question{AccessKeyID: deleted.AccessKeyID, SigningKey: nobodys}},
		{"the decoy's id with another secret", keys.Question{AccessKeyID: decoy.AccessKeyID, SigningKey: d.SigningKey}},
	} {
		r.calls = nil
		v, err := l.Verify(t.Context(), c.q)
		if err != nil || v.Reason != keys.ReasonUnknown {
			t.Errorf("Verify of %s = %+v, %v; want unknown", c.what, v, err)
		}
		if want := []string{"Candidate"}; !slices.Equal(r.calls, want) {
			t.Errorf("Verify of %s read %v, want %v", c.what, r.calls, want)
		}
	}
	v, err := l.Verify(t.Context(), keys.Question{AccessKeyID: decoy.AccessKeyID, SigningKey: nobodys})
	if err != nil || v.Allowed || v.Reason != keys.ReasonUnknown {
		t.Errorf("Verify of the decoy with its own secret = %+v, %v; want unknown", v, err)
	}
}

// A store of the time when a decoy could have any id has none that comes before all: what is asked for below is compared with it.
func TestR3_DecoyOfAnEarlierStore(t *testing.T) {
	p := newPlace(t)
	d, _ := newKey(t, p.open(t), "web-01")
	p.exec(t, `DELETE FROM credentials WHERE access_key_id = 'KC'`)
	p.exec(t, `UPDATE meta SET decoy = '`+d.AccessKeyID+`'`)
	l := p.open(t)
	for _, id := range []string{"KC0000000000000000000000", "KC", "nobody"} {
		v, err := l.Verify(t.Context(), keys.Question{AccessKeyID: id, SigningKey: d.SigningKey})
		if err != nil || v.Allowed || v.Reason != keys.ReasonUnknown {
			t.Errorf("Verify of %q = %+v, %v; want unknown", id, v, err)
		}
	}
	if v, err := l.Verify(t.Context(), d.Question()); err != nil || !v.Allowed {
		t.Errorf("Verify of a credential = %+v, %v; want it allowed", v, err)
	}
}

// A credential that does not open says so to who asks for it, and to nobody else whose id comes after it.
func TestR46_DamagedNeighbour(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	d, _ := newKey(t, l, "web-01")
	p.exec(t, `UPDATE credentials SET signing_key = substr(signing_key, 1, 20) WHERE access_key_id = '`+d.AccessKeyID+`'`)
	_, err := l.Verify(t.Context(), d.Question())
	keystest.WantCode(t, "Verify() of the damaged credential", err, fault.StoreDamaged)
	for _, id := range []string{d.AccessKeyID[:23] + "~", "KCzzzzzzzzzzzzzzzzzzzzzz", "KC0000000000000000000000"} {
		v, err := l.Verify(t.Context(), keys.Question{AccessKeyID: id, SigningKey: d.SigningKey})
		if err != nil || v.Reason != keys.ReasonUnknown {
			t.Errorf("Verify() of %q = %+v, %v; want unknown", id, v, err)
		}
	}
}

// How many ranges a key has takes time to read, which who has not proven its credential must not be able to measure; whoever has is
// told of ranges that cannot be read.
func TestR3_RangesAreReadAfterTheProof(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	d, _ := newKey(t, l, "web-01")
	p.exec(t, `UPDATE keys SET ip_ranges = 'nonsense' WHERE name = 'web-01'`)
	wrong := d.Question()
	wrong.SigningKey = keystest.Draw(t).SigningKey
	if v, err := l.Verify(t.Context(), wrong); err != nil || v.Reason != keys.ReasonUnknown {
		t.Errorf("Verify with a wrong secret = %+v, %v; want unknown", v, err)
	}
	_, err := l.Verify(t.Context(), d.Question())
	keystest.WantCode(t, "Verify() of a key with damaged ranges", err, fault.StoreDamaged)
}

// What was allowed in the words of an operator is what Verify allows, after the list went through the store.
func TestR22_StoredRangesMatchAsGiven(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	texts := []string{"192.0.2.7", "10.0.0.0/8", "172.16.0.0/12", "203.0.113.128/25", "0.0.0.0/1", "2001:db8::/32", "2001:db8:1::1", "::/0", "fe80::/10"}
	addresses := []string{
		"192.0.2.7", "192.0.2.6", "10.0.0.0", "10.255.255.255", "11.0.0.0", "9.255.255.255", "172.15.255.255", "172.16.0.0",
		"172.31.255.255", "172.32.0.0", "203.0.113.127", "203.0.113.128", "127.255.255.255", "128.0.0.0", "0.0.0.0",
		"255.255.255.255", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db9::",
		"2001:db8:1::1", "::", "::1", "fe80::1", "febf::1", "fec0::1", "64:ff9b::a00:1",
	}
	for i, text := range texts {
		list, err := iprange.ParseList([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		d := keystest.Draw(t)
		pending, err := l.CreateKey(t.Context(), keys.NewKey{Name: fmt.Sprintf("web-%d", i), IPRanges: list, Offer: d.Offer})
		if err == nil {
			_, err = l.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
		}
		if err != nil {
			t.Fatal(err)
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			address := netip.MustParseAddr(text)
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		for _, text := range addresses {
			address := netip.MustParseAddr(text)
			// The same IPv4 peer, as a dual-stack socket names it.
			for _, seen := range []netip.Addr{address, netip.AddrFrom16(address.As16())} {
				q := d.Question()
				q.Address = seen
				v, err := l.Verify(t.Context(), q)
				want := address.Is4() == prefix.Addr().Is4() && prefix.Contains(address)
				if err != nil || v.Allowed != want {
					t.Errorf("from %s a key for %s is %+v, %v; want allowed %t", seen, prefix, v, err, want)
				}
			}
		}
	}
}

// An edit that would shut out an address that used the key within a week says so.
func TestCheckEditNamesAddressesInUse(t *testing.T) {
	p := newPlace(t)
	db := p.openStore(t)
	l := p.on(t, db)
	auth := keystest.Enroll(t, l, p.clock)
	old, key := newKey(t, l, "web-01")
	next, pending, err := roll(t, l, key.KeyID, auth.Next(), keys.RollTerms{Grace: keys.Grace{For: keys.MaxGrace}})
	if err == nil {
		_, err = l.Prove(t.Context(), next.AccessKeyID, next.Proof(pending))
	}
	if err != nil {
		t.Fatal(err)
	}
	for id, from := range map[string]string{old.AccessKeyID: "10.0.0.1", next.AccessKeyID: "192.0.2.7"} {
		err := db.Update(t.Context(), func(tx keys.Tx) error {
			c, err := tx.Credential(id)
			c.LastUsedAt, c.LastUsedFrom = p.clock.Now(), from
			if err != nil {
				return err
			}
			return tx.PutCredential(c)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(texts ...string) []netip.Addr {
		t.Helper()
		list, err := iprange.ParseList(texts)
		if err != nil {
			t.Fatal(err)
		}
		shutOut, err := l.CheckEdit(t.Context(), "web-01", keys.KeyEdit{IPRanges: &list})
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(shutOut, netip.Addr.Compare)
		return shutOut
	}
	was, is := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.7")
	if got := check("10.0.0.0/8", "192.0.2.0/24"); len(got) != 0 {
		t.Errorf("a list that lets both in shuts out %v", got)
	}
	if got := check("10.0.0.0/8"); !slices.Equal(got, []netip.Addr{is}) {
		t.Errorf("a list without %v shuts out %v", is, got)
	}
	if got := check("198.51.100.1"); !slices.Equal(got, []netip.Addr{was, is}) {
		t.Errorf("a list without both shuts out %v", got)
	}
	p.clock.Advance(7*24*time.Hour + time.Microsecond)
	if got := check("198.51.100.1"); len(got) != 0 {
		t.Errorf("a week later it shuts out %v", got)
	}
}

func BenchmarkVerifyCredential(b *testing.B) {
	p := newPlace(b)
	l := p.open(b)
	d, _ := newKey(b, l, "web-01")
	unknown := keystest.Draw(b)
	for what, c := range map[string]struct {
		q    keys.Question
		want keys.Reason
	}{"current": {d.Question(), keys.ReasonOK}, "unknown": {unknown.Question(), keys.ReasonUnknown}} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				if v, err := l.Verify(b.Context(), c.q); err != nil || v.Reason != c.want {
					b.Fatalf("Verify() = %+v, %v", v, err)
				}
			}
		})
	}
}
