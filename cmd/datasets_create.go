package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// datasetOptions are the flags of datasets create.
type datasetOptions struct {
	name, description, kind, algorithm, primaryKey string
	preset, file                                   string // the format of a structured one
	noKey                                          bool
	deliver                                        deliveryFlags
}

func newDatasetsCreate(a *app) *cobra.Command {
	var o datasetOptions
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a dataset, its Primary Key and a first key",
		Long: `Create a dataset, a Primary Key for it, and a first key named after it, whose credential is handed out once. With --primary-key
the dataset shares an existing Primary Key; with --no-key there is no first key, and the dataset itself is printed.

The data of an unstructured dataset is files and blobs. That of a structured one is fields of a table, whose ciphertexts look like
them: --preset says how, or a file (keyctl help dataset-formats).

If the credential cannot be delivered nothing was created, and the command can simply be repeated.`,
		Example: `  keyctl datasets create payments
  keyctl datasets create ssn --preset ssn
  keyctl datasets create invoices -f invoices.yaml
  keyctl datasets create payments --out payments.env
  keyctl datasets create archive --primary-key payments --no-key`,
		Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			o.name = args[0]
			return a.createDataset(c.Context(), o)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.description, "description", "", "what the data is")
	f.Var(nonEmpty(&o.kind), "type", "unstructured (default): files and blobs; structured: fields")
	f.Var(nonEmpty(&o.preset), "preset", "how the fields of a structured dataset look: "+presetNames())
	f.VarP(nonEmpty(&o.file), "file", "f", "describe it in this YAML file, - for standard input")
	f.Var(nonEmpty(&o.algorithm), "algorithm", "of an unstructured one: AES-256-GCM (default) or AES-128-GCM")
	f.Var(nonEmpty(&o.primaryKey), "primary-key", "share this existing Primary Key instead of making one")
	f.BoolVar(&o.noKey, "no-key", false, "make no first key")
	o.deliver.add(f)
	return c
}

func (a *app) createDataset(ctx context.Context, o datasetOptions) error {
	request := keys.NewDataset{
		Name: o.name, Description: o.description, Type: keys.DatasetType(o.kind), Algorithm: o.algorithm, PrimaryKey: o.primaryKey,
	}
	var err error
	if request.Format, err = a.datasetFormat(o); err != nil {
		return err
	}
	if o.kind == "" {
		request.Type = keys.Unstructured
		if request.Format != nil {
			request.Type = keys.Structured
		}
	}
	if err := request.Validate(); err != nil {
		return err
	}
	if o.noKey {
		return a.createBareDataset(ctx, request, o.deliver)
	}
	drawn := startDrawing(a.sys.Rand)
	return a.handOut(ctx, drawn, o.deliver, o.name, func(keys.Service) (bool, error) { return false, nil },
		func(service keys.Service, offer keys.Offer) (keys.Pending, error) {
			request.FirstKey = &offer
			_, pending, err := service.CreateDataset(ctx, request)
			if err != nil {
				return keys.Pending{}, err
			}
			return *pending, nil
		})
}

// createBareDataset makes a dataset without a key and prints it.
func (a *app) createBareDataset(ctx context.Context, request keys.NewDataset, f deliveryFlags) error {
	if f != (deliveryFlags{}) {
		return fault.New(fault.Invalid, "with --no-key there is no credential to deliver").WithHint("leave out --format, --profile, --out, --copy, --keyring, --replace and --print")
	}
	p, err := a.printer()
	if err != nil {
		return err
	}
	service, err := a.openOrCreate(ctx)
	if err != nil {
		return err
	}
	dataset, _, err := service.CreateDataset(ctx, request)
	if err != nil {
		return err
	}
	return printOne(p, datasetShape, dataset)
}
