"""Small Qt parts that know no scene."""
