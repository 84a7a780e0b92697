//! The messages of the service, and its client and server, which `build.rs` generates. As in this `.proto` file:
//!
//! ```proto
//! package hello;
//! service Greeter { rpc SayHello (HelloRequest) returns (HelloReply); }
//! message HelloRequest { uint32 delay_ms = 1; }
//! message HelloReply { string message = 1; }
//! ```

/// Asks for a greeting.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloRequest {
    /// How long the server should think before it answers.
    #[prost(uint32, tag = "1")]
    pub delay_ms: u32,
}

/// A greeting.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloReply {
    /// Who greets.
    #[prost(string, tag = "1")]
    pub message: String,
}

include!(concat!(env!("OUT_DIR"), "/hello.Greeter.rs"));
