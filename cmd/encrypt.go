package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"keyctl/internal/ciphertext"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func newEncrypt(a *app) *cobra.Command {
	var o cipherOptions
	c := &cobra.Command{
		Use:   "encrypt [FILE] (--key KEY | --from FILE)",
		Short: "Encrypt a file or a pipe with a credential",
		Long: `Encrypt a file, or standard input, of up to 256 MiB, as the client libraries encrypt unstructured data: each of them decrypts it,
and every key of the dataset that may. The data key comes from the server that the credential names, else from the one that is
configured, else from the local store. --server, --store and --context go before what the credential says.

So this is also the way to check a credential from end to end without a line of code: the address of the server and its
certificate, both secrets, the key's state and addresses, and its dataset. A key that is limited to addresses needs a server; the
local store does not know where a request comes from.

--key and --from name the credential as for keyctl run. The result goes to standard output, or with --out to a new file of mode
0600, which is there whole or not at all. Longer data is for a client library, which works piece by piece.`,
		Example: `  keyctl encrypt --key web-01 report.pdf --out report.pdf.enc
  tar c papers | keyctl encrypt --from web-01.env > papers.tar.enc
  echo hello | keyctl encrypt --key web-01 | keyctl decrypt --key web-02`,
		DisableFlagsInUseLine: true,
		Args:                  optionalArg("FILE"),
		ValidArgsFunction:     oneFile,
		RunE: func(c *cobra.Command, args []string) error {
			return a.cipher(c.Context(), o.on(args), ciphertext.MaxPlain, encryptData)
		},
	}
	o.add(c)
	return c
}

// encryptData asks for a data key and encrypts with it.
func encryptData(ctx context.Context, h holder, plain []byte) ([]byte, error) {
	if len(plain) > ciphertext.MaxPlain {
		return nil, ciphertext.TooLong()
	}
	released, err := h.NewDataKey(ctx, 1)
	if err != nil {
		return nil, err
	}
	algorithm, err := ciphertext.ParseAlgorithm(released.Algorithm)
	if err != nil {
		return nil, fault.New(fault.Unsupported, "the server wants another algorithm than this version of keyctl has").WithCause(err)
	}
	dataKey, err := h.open(released)
	if err != nil {
		return nil, err
	}
	defer clear(dataKey)
	data, err := ciphertext.Seal(algorithm, dataKey, released.Encrypted, plain)
	if err != nil {
		return nil, err
	}
	return data, h.track(ctx, keys.ActionEncrypt)
}
