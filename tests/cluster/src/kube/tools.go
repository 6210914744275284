//go:build tools

// Package tools names the programs that build makes from other modules, so
// that go.mod and go.sum keep what they need.
package tools

import (
	_ "k8s.io/kubernetes/test/images/agnhost"
)
