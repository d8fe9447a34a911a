// Package s3 only pins versitygw, the S3 server of the tests: go.mod and go.sum say which, `python -m devstack s3` builds it.
package s3
