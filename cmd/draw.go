package cmd

import (
	"context"
	"io"
	"iter"
	"runtime"

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

// drawAhead is one drawing after another, n in all. Every core draws, and a few credentials ahead of the one that is
// wanted: one key pair takes six times as long as another, and no core shall wait for the slowest. It ends with ctx.
func drawAhead(ctx context.Context, random io.Reader, n int) iter.Seq[*drawing] {
	return func(yield func(*drawing) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		cores := runtime.GOMAXPROCS(0)
		ahead := make(chan *drawing, drawnAhead*cores)
		busy := make(chan struct{}, cores)
		go func() {
			defer close(ahead)
			for range n {
				select {
				case busy <- struct{}{}:
				case <-ctx.Done():
					return
				}
				d := startDrawing(random)
				go func() { <-d.done; <-busy }()
				select {
				case ahead <- d:
				case <-ctx.Done():
					return
				}
			}
		}()
		for d := range ahead {
			if !yield(d) {
				return
			}
		}
	}
}

// drawnAhead is how many credentials for each core may wait to be handed out.
const drawnAhead = 8
