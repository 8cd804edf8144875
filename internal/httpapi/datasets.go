package httpapi

import (
	"context"
	"net/http"

	"keyctl/internal/access"
	"keyctl/internal/keys"
)

// DatasetPath is the dataset that a path names.
type DatasetPath struct {
	Dataset string `path:"dataset" doc:"its name"`
}

var datasetsShow = define("datasets.show", http.MethodGet, "/v1/datasets/{dataset}", access.DatasetsRead, reads, "Show a dataset",
	func(ctx context.Context, s keys.Service, in *DatasetPath) (keys.DatasetView, error) {
		return s.Dataset(ctx, in.Dataset)
	})

// Dataset implements keys.Service.
func (c *Client) Dataset(ctx context.Context, name string) (keys.DatasetView, error) {
	return datasetsShow.on(ctx, c, DatasetPath{name})
}

var datasetsList = define("datasets.list", http.MethodGet, "/v1/datasets", access.DatasetsRead, reads, "List datasets",
	func(ctx context.Context, s keys.Service, in *PageQuery) (keys.Page[keys.DatasetView], error) {
		return s.Datasets(ctx, in.Cursor, in.Limit)
	})

// Datasets implements keys.Service.
func (c *Client) Datasets(ctx context.Context, cursor string, limit int) (keys.Page[keys.DatasetView], error) {
	return datasetsList.on(ctx, c, PageQuery{cursor, limit})
}

type newDatasetInput struct{ Body newDatasetBody }

var datasetsCreate = define("datasets.create", http.MethodPost, "/v1/datasets", access.DatasetsWrite, harmless,
	"Create a dataset, its Primary Key and, with a credential, a first key",
	func(ctx context.Context, s keys.Service, in *newDatasetInput) (datasetMade, error) {
		request, err := in.Body.request()
		if err != nil {
			return datasetMade{}, err
		}
		dataset, pending, err := s.CreateDataset(ctx, request)
		return datasetMade{dataset, (*pendingBody)(pending)}, err
	})

// CreateDataset implements keys.Service. Without a credential nothing tells a repetition from a second request, so a lost
// answer is reported.
func (c *Client) CreateDataset(ctx context.Context, request keys.NewDataset) (keys.DatasetView, *keys.Pending, error) {
	body, err := newDatasetToWire(request)
	if err != nil {
		return keys.DatasetView{}, nil, err
	}
	send := datasetsCreate.once
	if request.FirstKey != nil {
		send = datasetsCreate.on
	}
	out, err := send(ctx, c, newDatasetInput{body})
	return out.Dataset, (*keys.Pending)(out.Pending), err
}

var datasetsRotate = define("datasets.rotate", http.MethodPost, "/v1/datasets/{dataset}/rotate", access.DatasetsWrite, counts,
	"Add a data key to a structured dataset, which encrypts from now on",
	func(ctx context.Context, s keys.Service, in *DatasetPath) (keys.DatasetView, error) {
		return s.RotateDataset(ctx, in.Dataset)
	})

// RotateDataset implements keys.Service.
func (c *Client) RotateDataset(ctx context.Context, name string) (keys.DatasetView, error) {
	return datasetsRotate.on(ctx, c, DatasetPath{name})
}

type datasetEditInput struct {
	DatasetPath
	Body struct {
		Name        *string `json:"name,omitempty"`
		Description *string `json:"description,omitempty"`
		Algorithm   *string `json:"algorithm,omitempty"`
	}
}

var datasetsEdit = define("datasets.edit", http.MethodPatch, "/v1/datasets/{dataset}", access.DatasetsWrite, counts, "Change a dataset",
	func(ctx context.Context, s keys.Service, in *datasetEditInput) (keys.DatasetView, error) {
		return s.EditDataset(ctx, in.Dataset, keys.DatasetEdit(in.Body))
	})

// EditDataset implements keys.Service.
func (c *Client) EditDataset(ctx context.Context, name string, edit keys.DatasetEdit) (keys.DatasetView, error) {
	in := datasetEditInput{DatasetPath: DatasetPath{name}}
	in.Body.Name, in.Body.Description, in.Body.Algorithm = edit.Name, edit.Description, edit.Algorithm
	return datasetsEdit.on(ctx, c, in)
}

type datasetDeleteInput struct {
	DatasetPath
	Detach bool `query:"detach" doc:"detach the keys that hang on it"`
}

var datasetsDelete = define("datasets.delete", http.MethodDelete, "/v1/datasets/{dataset}", access.DatasetsWrite, counts, "Delete a dataset",
	func(ctx context.Context, s keys.Service, in *datasetDeleteInput) (keys.DatasetView, error) {
		return s.DeleteDataset(ctx, in.Dataset, in.Detach)
	})

// DeleteDataset implements keys.Service.
func (c *Client) DeleteDataset(ctx context.Context, name string, detach bool) (keys.DatasetView, error) {
	return datasetsDelete.on(ctx, c, datasetDeleteInput{DatasetPath{name}, detach})
}

type attachInput struct {
	DatasetPath
	Body struct {
		Keys  []string    `json:"keys" doc:"names or ids"`
		Grant *keys.Grant `json:"grant,omitempty" doc:"what they may do there; none: everything"`
	}
}

type detachInput struct {
	DatasetPath
	Body struct {
		Keys []string `json:"keys" doc:"names or ids"`
	}
}

var datasetsAttach = define("datasets.attach", http.MethodPost, "/v1/datasets/{dataset}/attach", access.DatasetsWrite, counts, "Let keys reach a dataset",
	func(ctx context.Context, s keys.Service, in *attachInput) (keys.DatasetView, error) {
		grant := keys.FullGrant
		if in.Body.Grant != nil {
			grant = *in.Body.Grant
		}
		return s.AttachKeys(ctx, in.Dataset, in.Body.Keys, grant)
	})

// AttachKeys implements keys.Service.
func (c *Client) AttachKeys(ctx context.Context, dataset string, refs []string, grant keys.Grant) (keys.DatasetView, error) {
	in := attachInput{DatasetPath: DatasetPath{dataset}}
	in.Body.Keys, in.Body.Grant = refs, &grant
	return datasetsAttach.on(ctx, c, in)
}

var datasetsDetach = define("datasets.detach", http.MethodPost, "/v1/datasets/{dataset}/detach", access.DatasetsWrite, harmless, "Keep keys from a dataset",
	func(ctx context.Context, s keys.Service, in *detachInput) (keys.DatasetView, error) {
		return s.DetachKeys(ctx, in.Dataset, in.Body.Keys)
	})

// DetachKeys implements keys.Service.
func (c *Client) DetachKeys(ctx context.Context, dataset string, refs []string) (keys.DatasetView, error) {
	in := detachInput{DatasetPath: DatasetPath{dataset}}
	in.Body.Keys = refs
	return datasetsDetach.on(ctx, c, in)
}

// PrimaryKeyPath is the Primary Key that a path names.
type PrimaryKeyPath struct {
	PrimaryKey string `path:"primary_key" doc:"its name"`
}

var primaryKeysShow = define("primary-keys.show", http.MethodGet, "/v1/primary-keys/{primary_key}", access.PrimaryKeysRead, reads, "Show a Primary Key",
	func(ctx context.Context, s keys.Service, in *PrimaryKeyPath) (keys.PrimaryKeyView, error) {
		return s.PrimaryKey(ctx, in.PrimaryKey)
	})

// PrimaryKey implements keys.Service.
func (c *Client) PrimaryKey(ctx context.Context, name string) (keys.PrimaryKeyView, error) {
	return primaryKeysShow.on(ctx, c, PrimaryKeyPath{name})
}

var primaryKeysList = define("primary-keys.list", http.MethodGet, "/v1/primary-keys", access.PrimaryKeysRead, reads, "List Primary Keys",
	func(ctx context.Context, s keys.Service, in *PageQuery) (keys.Page[keys.PrimaryKeyView], error) {
		return s.PrimaryKeys(ctx, in.Cursor, in.Limit)
	})

// PrimaryKeys implements keys.Service.
func (c *Client) PrimaryKeys(ctx context.Context, cursor string, limit int) (keys.Page[keys.PrimaryKeyView], error) {
	return primaryKeysList.on(ctx, c, PageQuery{cursor, limit})
}

type newPrimaryKeyInput struct {
	Body struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
	}
}

var primaryKeysCreate = define("primary-keys.create", http.MethodPost, "/v1/primary-keys", access.PrimaryKeysWrite, counts,
	"Create a Primary Key that datasets can share",
	func(ctx context.Context, s keys.Service, in *newPrimaryKeyInput) (keys.PrimaryKeyView, error) {
		return s.CreatePrimaryKey(ctx, in.Body.Name, in.Body.Description)
	})

// CreatePrimaryKey implements keys.Service.
func (c *Client) CreatePrimaryKey(ctx context.Context, name, description string) (keys.PrimaryKeyView, error) {
	var in newPrimaryKeyInput
	in.Body.Name, in.Body.Description = name, description
	return primaryKeysCreate.on(ctx, c, in)
}

var primaryKeysRotate = define("primary-keys.rotate", http.MethodPost, "/v1/primary-keys/{primary_key}/rotate", access.PrimaryKeysWrite, counts,
	"Add a version, which encrypts from now on",
	func(ctx context.Context, s keys.Service, in *PrimaryKeyPath) (keys.PrimaryKeyView, error) {
		return s.RotatePrimaryKey(ctx, in.PrimaryKey)
	})

// RotatePrimaryKey implements keys.Service.
func (c *Client) RotatePrimaryKey(ctx context.Context, name string) (keys.PrimaryKeyView, error) {
	return primaryKeysRotate.on(ctx, c, PrimaryKeyPath{name})
}

type disablePrimaryKeyInput struct {
	PrimaryKeyPath
	Body struct {
		Version uint32 `json:"version,omitempty" doc:"only this older version; 0: all of it"`
		Code    string `json:"code,omitempty" doc:"an authenticator code"`
	}
}

var primaryKeysDisable = define("primary-keys.disable", http.MethodPost, "/v1/primary-keys/{primary_key}/disable", access.PrimaryKeysWrite, counts,
	"Stop every use of a Primary Key, or of one older version",
	func(ctx context.Context, s keys.Service, in *disablePrimaryKeyInput) (keys.PrimaryKeyView, error) {
		return s.DisablePrimaryKey(ctx, in.PrimaryKey, in.Body.Version, in.Body.Code)
	})

// DisablePrimaryKey implements keys.Service.
func (c *Client) DisablePrimaryKey(ctx context.Context, name string, version uint32, code string) (keys.PrimaryKeyView, error) {
	in := disablePrimaryKeyInput{PrimaryKeyPath: PrimaryKeyPath{name}}
	in.Body.Version, in.Body.Code = version, code
	return primaryKeysDisable.on(ctx, c, in)
}

type enablePrimaryKeyInput struct {
	PrimaryKeyPath
	Body struct {
		Version uint32 `json:"version,omitempty" doc:"only this version; 0: all of it"`
	}
}

var primaryKeysEnable = define("primary-keys.enable", http.MethodPost, "/v1/primary-keys/{primary_key}/enable", access.PrimaryKeysWrite, counts,
	"Undo a disable",
	func(ctx context.Context, s keys.Service, in *enablePrimaryKeyInput) (keys.PrimaryKeyView, error) {
		return s.EnablePrimaryKey(ctx, in.PrimaryKey, in.Body.Version)
	})

// EnablePrimaryKey implements keys.Service.
func (c *Client) EnablePrimaryKey(ctx context.Context, name string, version uint32) (keys.PrimaryKeyView, error) {
	in := enablePrimaryKeyInput{PrimaryKeyPath: PrimaryKeyPath{name}}
	in.Body.Version = version
	return primaryKeysEnable.on(ctx, c, in)
}
