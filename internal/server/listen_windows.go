package server

import "golang.org/x/sys/windows"

// errPermission is how the system refuses a port.
var errPermission = windows.WSAEACCES
