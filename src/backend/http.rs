//! HTTP for every adapter: clients, time-outs, size caps, allowed hosts, no hidden retry.
