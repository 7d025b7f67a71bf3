"""Protobuf schemas of the segment's messages: cruisers.proto is the source, cruisers_pb2 is made from it by `make schemas`."""
