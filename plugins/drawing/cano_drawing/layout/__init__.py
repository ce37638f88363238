"""A layered layout of directed graphs with cycles. Equal input has equal output."""
