package server

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"keyctl/internal/fault"
)

// lookEvery is how often the files of a certificate are looked at, at most.
const lookEvery = time.Second

// keyPair is a certificate and its key, read again when the files change.
type keyPair struct {
	certFile, keyFile string
	now               func() time.Time
	log               *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	state  [2]fileState // the files' when pair was read, or could not be
	looked time.Time
}

// fileState tells whether a file has changed.
type fileState struct {
	size    int64
	changed time.Time
}

// loadKeyPair reads the certificate for the first time.
func loadKeyPair(o Options) (*keyPair, error) {
	k := &keyPair{certFile: o.CertFile, keyFile: o.KeyFile, now: o.Now, log: o.Log}
	if err := cmp.Or(readable("certificate", k.certFile), readable("key of the certificate", k.keyFile)); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the certificate %q and the key %q do not make a pair", k.certFile, k.keyFile).
			WithHint("both are PEM; the certificate comes first in its file, then those of its issuers").WithCause(err)
	}
	k.pair, k.state, k.looked = &pair, k.files(), k.now()
	return k, nil
}

// readable says what is wrong with a file that cannot be read.
func readable(what, name string) error {
	file, err := os.Open(name)
	switch {
	case err == nil:
		return file.Close()
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "no file %q with the %s", name, what).WithHint("--tls-cert and --tls-key name files in PEM").WithCause(err)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Forbidden, "the %s in %q may not be read by this user", what, name).WithHint("make the file this user's, and private: mode 0600").WithCause(err)
	}
	return fault.New(fault.Unavailable, "the %s in %q cannot be read", what, name).WithCause(err)
}

func (k *keyPair) files() (state [2]fileState) {
	for i, name := range []string{k.certFile, k.keyFile} {
		if info, err := os.Stat(name); err == nil {
			state[i] = fileState{info.Size(), info.ModTime()}
		}
	}
	return state
}

// certificate is the pair for a new connection. When the files have changed it reads them, and when they do not make a
// pair, as in the middle of a renewal, it keeps the one there is and says so.
func (k *keyPair) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if age := now.Sub(k.looked); age >= 0 && age < lookEvery {
		return k.pair, nil
	}
	k.looked = now
	state := k.files()
	if state == k.state {
		return k.pair, nil
	}
	k.state = state
	pair, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		k.log.Error("the changed certificate is not used", "file", k.certFile, "error", err.Error())
		return k.pair, nil
	}
	k.log.Info("the certificate was read again", "file", k.certFile)
	k.pair = &pair
	return k.pair, nil
}
