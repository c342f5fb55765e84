//! elfnote
