package cmd

import (
	"os"
	"testing"
)

// releaseDir is where tests put the program that they build once for all.
var releaseDir string

// CleaningM runs the tests and then removes releaseDir. It is exported for TestMain, which is in cmd_test.
type CleaningM struct{ *testing.M }

// Run implements testscript.TestingM.
func (m CleaningM) Run() int {
	defer func() { _ = os.RemoveAll(releaseDir) }()
	return m.M.Run()
}
