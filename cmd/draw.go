package cmd

import (
	"context"
	"io"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
)

// drawing is a credential that is being drawn in the background. Its RSA key pair takes tens of milliseconds, sometimes
// hundreds, so a command begins with it, before it asks or opens anything.
type drawing struct {
	done chan struct{}
	cred credential.Credential
	pair credential.KeyPair
	err  error
}

// startDrawing begins to draw a credential on this machine: the store gets to know what it may, and never the secret
// crypto access key.
func startDrawing(random io.Reader) *drawing {
	d := &drawing{done: make(chan struct{})}
	go func() {
		defer close(d.done)
		if d.cred, d.err = credential.Draw(random); d.err == nil {
			d.pair, d.err = credential.GenerateKeyPair(d.cred.CryptoAccessKey)
		}
	}()
	return d
}

// wait returns the drawn credential and the part of it that the store may know.
func (d *drawing) wait(ctx context.Context) (credential.Credential, keys.Offer, error) {
	select {
	case <-d.done:
		return d.cred, keys.NewOffer(d.cred, d.pair), d.err
	case <-ctx.Done():
		return credential.Credential{}, keys.Offer{}, ctx.Err()
	}
}
