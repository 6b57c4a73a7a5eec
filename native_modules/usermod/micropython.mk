# User C module for ports that build with make: USER_C_MODULES=/path/to/native_modules
# WITHOUT="conv1d stream" and PORTABLE=1 make it smaller: see core/parts.mk.
ATTN8_DIR := $(USERMOD_DIR)
ATTN8_CORE ?= $(ATTN8_DIR)/../core
ATTN8_BINDING ?= $(ATTN8_DIR)/../binding
include $(ATTN8_CORE)/parts.mk

SRC_USERMOD_C += $(ATTN8_BINDING)/mod_attn8.c
SRC_USERMOD_LIB_C += $(addprefix $(ATTN8_CORE)/,a8_armdsp.c a8_check.c a8_kernels.c a8_m0plus_attention.c a8_m0plus_linear.c a8_model.c a8_plan.c a8_rv32.c a8_stream.c a8_xtensa.c)
SRC_USERMOD_LIB_ASM += $(addprefix $(ATTN8_CORE)/,a8_m0plus_attend.S a8_m0plus_norm.S a8_m0plus_products.S)
CFLAGS_USERMOD += -I$(ATTN8_CORE) $(ATTN8_PARTS)
