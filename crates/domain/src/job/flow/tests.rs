//! Rules of the flow.
