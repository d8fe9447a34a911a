"""A small shop: products in Postgres, orders in Postgres and through a Redis queue."""
