// The theme asks for this file, half a megabyte in its own version; its icons come from a font.
