//! Generates the client and the server of the service from its description here: no `protoc` is needed.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let say_hello = Method::builder()
        .name("say_hello")
        .route_name("SayHello")
        .input_type("crate::hello::HelloRequest")
        .output_type("crate::hello::HelloReply")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    Builder::new().compile(&[Service::builder().name("Greeter").package("hello").method(say_hello).build()]);
}
