//! seamstore
