# The module time for QEMU's MPS2 board, whose port has none.
SRC_USERMOD_C += $(USERMOD_DIR)/clock.c
