package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"keyctl/internal/ciphertext"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func newDecrypt(a *app) *cobra.Command {
	o := cipherOptions{decrypts: true}
	c := &cobra.Command{
		Use:   "decrypt [FILE] (--key KEY | --from FILE)",
		Short: "Decrypt what encrypt or a client library encrypted",
		Long: `Decrypt a file, or standard input, that keyctl encrypt or a client library encrypted, of up to 256 MiB. Any key of the dataset
that may decrypt does, whichever encrypted. Where the data key comes from, and what else this checks, keyctl encrypt --help says.

Nothing is written before all of the ciphertext was authenticated: one that was changed or cut is an error and leaves no file.`,
		Example: `  keyctl decrypt --key web-01 report.pdf.enc --out report.pdf
  keyctl decrypt --from web-01.env < papers.tar.enc | tar x`,
		DisableFlagsInUseLine: true,
		Args:                  optionalArg("FILE"),
		ValidArgsFunction:     oneFile,
		RunE: func(c *cobra.Command, args []string) error {
			return a.cipher(c.Context(), o.on(args), ciphertext.MaxSize, decryptData)
		},
	}
	o.add(c)
	return c
}

// decryptData asks for the data key of a ciphertext and opens it, in its place.
func decryptData(ctx context.Context, h holder, data []byte) ([]byte, error) {
	parsed, err := ciphertext.Parse(data)
	if err != nil {
		return nil, err
	}
	released, err := h.OpenDataKey(ctx, parsed.EncryptedDataKey)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.From(err).WithHint("it is of a dataset that this key does not reach, or its header was changed")
	}
	if err != nil {
		return nil, err
	}
	dataKey, err := h.open(released)
	if err != nil {
		return nil, err
	}
	defer clear(dataKey)
	plain, err := parsed.Open(dataKey)
	if err != nil {
		return nil, err
	}
	return plain, h.track(ctx, keys.ActionDecrypt)
}
