"""Ways into an environment's services: the proxy, TCP tunnels, commands; and what is measured of them."""
