package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/store"
)

// home is a user's home directory with a store and a master key where keyctl looks for them.
type home struct {
	dir    string
	url    string // of a store in PostgreSQL; empty: a file
	master envelope.MasterKey
	local  *keys.Local // open until closed
	db     *store.DB
}

// store is the path of the store's file, or its URL.
func (h home) store() string {
	if h.url != "" {
		return h.url
	}
	return filepath.Join(h.dir, ".local", "share", "keyctl", "keyctl.db")
}

// env is the environment of commands that run in this home.
func (h home) env() []string {
	env := []string{"HOME=" + h.dir, "PATH=" + os.Getenv("PATH"), "TERM=xterm-256color"}
	if h.url != "" {
		env = append(env, "KEYCTL_STORE="+h.url)
	}
	return env
}

// newHome makes a home whose store has a dataset "payments" and so many keys.
func newHome(b *testing.B, n int) home { return newHomeOn(b, "", n) }

// newHomeOn is newHome with the store in an empty PostgreSQL database.
func newHomeOn(b *testing.B, url string, n int) home {
	b.Helper()
	master, err := envelope.DrawMasterKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	h := home{dir: b.TempDir(), url: url, master: master}
	keyFile := filepath.Join(h.dir, ".config", "keyctl", "master.key")
	if err := os.MkdirAll(filepath.Dir(keyFile), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(keyFile, []byte(master.Text().Reveal()+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	create := store.Create
	if url != "" {
		create = store.CreatePostgres
	}
	err = create(b.Context(), h.store(), store.Options{}, func(ctx context.Context, db *store.DB) error {
		return keys.Init(ctx, db, master, h.around())
	})
	if err != nil {
		b.Fatal(err)
	}
	h.open(b)
	h.fill(b, n)
	return h
}

// around is what is around the domain in a home.
func (h home) around() keys.Env { return keys.Env{Now: time.Now, Rand: rand.Reader, OSUser: "bench"} }

// open opens the store.
func (h *home) open(b *testing.B) {
	b.Helper()
	open := store.Open
	if h.url != "" {
		open = store.OpenPostgres
	}
	var err error
	if h.db, err = open(b.Context(), h.store(), store.Options{}); err != nil {
		b.Fatal(err)
	}
	if h.local, err = keys.Open(b.Context(), h.db, h.master, h.around()); err != nil {
		b.Fatal(err)
	}
}

// close leaves the store to the commands: as a single file, as the last of them does.
func (h home) close(b *testing.B) {
	b.Helper()
	if err := h.db.Close(); err != nil {
		b.Fatal(err)
	}
}

// fill writes keys straight into the store: drawing a pair for each would take minutes, and lists do not look at it.
func (h home) fill(b *testing.B, n int) {
	b.Helper()
	if _, _, err := h.local.CreateDataset(b.Context(), keys.NewDataset{Name: "payments", Type: keys.Unstructured}); err != nil {
		b.Fatal(err)
	}
	for from := 0; from < n; from += 10_000 {
		err := h.db.Update(b.Context(), func(tx keys.Tx) error {
			dataset, err := tx.DatasetByName("payments")
			if err != nil {
				return err
			}
			meta, err := tx.Meta()
			if err != nil {
				return err
			}
			keyring, err := envelope.Unwrap(h.master, meta.StoreID, meta.Keyring)
			if err != nil {
				return err
			}
			for i := from; i < min(n, from+10_000); i++ {
				if err := putKey(tx, keyring, dataset.ID, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// putKey writes one active key as keys.create leaves it. Of its credential only the signing key is one: whoever asks for an id that
// is not there is compared with the one before.
func putKey(tx keys.Tx, keyring envelope.Keyring, datasetID string, i int) error {
	keyID, err := credential.DrawID(rand.Reader, "key_")
	if err != nil {
		return err
	}
	accessKeyID, err := credential.DrawID(rand.Reader, "KC")
	if err != nil {
		return err
	}
	ranges, err := iprange.ParseList([]string{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24).String()})
	if err != nil {
		return err
	}
	secret, err := credential.DrawToken(rand.Reader, credential.SigningKey)
	if err != nil {
		return err
	}
	sealed, err := keyring.Seal(envelope.Slot{Table: "credentials", Row: accessKeyID, Column: "signing_key"}, []byte(secret.Reveal()))
	if err != nil {
		return err
	}
	made := keys.Instant(time.Now().Add(-time.Duration(i) * time.Minute))
	err = tx.PutKey(keys.Key{
		ID: keyID, Name: fmt.Sprintf("web-%06d", i), Description: "serves web pages", Labels: map[string]string{"env": "prod"},
		IPRanges: ranges, CreatedAt: made, CreatedBy: "bench", ActivatedAt: made, LastUsedAt: keys.Instant(time.Now()),
	})
	if err != nil {
		return err
	}
	err = tx.PutCredential(keys.Credential{
		AccessKeyID: accessKeyID, KeyID: keyID, Generation: 1, CreatedAt: made, PendingUntil: made.Add(keys.PendingFor),
		ProvenAt: made, SigningKey: sealed, Challenge: make([]byte, 32), Fingerprint: make([]byte, 32),
	})
	if err == nil {
		_, err = tx.Attach(datasetID, keyID, keys.FullGrant, made)
	}
	return err
}
