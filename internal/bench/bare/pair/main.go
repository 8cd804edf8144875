// Command pair is the bare program that `keyctl keys create` is compared with: it draws a credential, generates the RSA
// key pair of it, and forgets both.
package main

import (
	"crypto/rand"
	"fmt"
	"os"

	"keyctl/internal/credential"
)

func main() {
	cred, err := credential.Draw(rand.Reader)
	if err == nil {
		_, err = credential.GenerateKeyPair(cred.CryptoAccessKey)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pair:", err)
		os.Exit(1)
	}
}
