//go:build unix

package server

import "syscall"

// errPermission is how the system refuses a port.
var errPermission = syscall.EACCES
