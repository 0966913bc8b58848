// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools names the conformance suite for HTTP/2 that ./dev test builds, at the versions of go.mod, which Debian 12's Go can build.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
