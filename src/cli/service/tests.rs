//! The texts of services, compared with what each platform wants.
