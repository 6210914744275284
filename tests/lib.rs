//! Tests of the whole; the library is empty, the tests are the package.
