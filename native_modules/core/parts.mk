# What a build leaves out, of WITHOUT="conv1d attention norm add pool table stream"; a model that needs it is refused.
# PORTABLE=1 takes the portable kernels instead of those of the processor: slower, and on armv6m 5 kB smaller.
ATTN8_KNOWN := conv1d attention norm add pool table stream
ATTN8_UNKNOWN := $(filter-out $(ATTN8_KNOWN),$(WITHOUT))
ifneq ($(ATTN8_UNKNOWN),)
$(error WITHOUT: got $(ATTN8_UNKNOWN), expected some of: $(ATTN8_KNOWN))
endif
ATTN8_PARTS := $(if $(WITHOUT),$(addprefix -DA8_WITHOUT_,$(shell echo $(WITHOUT) | tr a-z A-Z)))
ATTN8_PARTS += $(if $(filter-out 0,$(PORTABLE)),-DA8_PORTABLE)
