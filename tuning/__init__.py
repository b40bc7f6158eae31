"""The cheapest setting whose answers hold on the user's own data, with its proof."""
