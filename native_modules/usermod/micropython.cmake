# User C module for ports that build with CMake (rp2, esp32): USER_C_MODULES=/path/to/native_modules/usermod/micropython.cmake
# -DWITHOUT="conv1d stream" and -DPORTABLE=1 make it smaller, as in core/parts.mk.
add_library(usermod_attn8 INTERFACE)

set(ATTN8_CORE ${CMAKE_CURRENT_LIST_DIR}/../core)
target_sources(usermod_attn8 INTERFACE
    ${CMAKE_CURRENT_LIST_DIR}/../binding/mod_attn8.c
    ${ATTN8_CORE}/a8_armdsp.c
    ${ATTN8_CORE}/a8_check.c
    ${ATTN8_CORE}/a8_kernels.c
    ${ATTN8_CORE}/a8_m0plus_attend.S
    ${ATTN8_CORE}/a8_m0plus_attention.c
    ${ATTN8_CORE}/a8_m0plus_linear.c
    ${ATTN8_CORE}/a8_m0plus_norm.S
    ${ATTN8_CORE}/a8_m0plus_products.S
    ${ATTN8_CORE}/a8_model.c
    ${ATTN8_CORE}/a8_plan.c
    ${ATTN8_CORE}/a8_rv32.c
    ${ATTN8_CORE}/a8_stream.c
    ${ATTN8_CORE}/a8_xtensa.c
    ${ATTN8_CORE}/a8_xtensa_mac16.S
)
# -DATTN8_XTENSA_MAC16=1 for an ESP32 or ESP32-S3, not an ESP32-S2: it has no MAC16 unit.
if(ATTN8_XTENSA_MAC16)
    target_compile_definitions(usermod_attn8 INTERFACE A8_XTENSA_MAC16)
endif()
# The kernels of a Cortex-M0+ are partly assembly, which a project need not have enabled; scripts cannot enable it.
get_property(ATTN8_LANGUAGES GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT CMAKE_SCRIPT_MODE_FILE AND NOT "ASM" IN_LIST ATTN8_LANGUAGES)
    enable_language(ASM)
endif()

# On rp2 the kernels run from RAM: code in flash competes with the weights for the cache.
if(PICO_BOARD OR PICO_PLATFORM)
    target_compile_definitions(usermod_attn8 INTERFACE A8_IN_RAM)
endif()

target_include_directories(usermod_attn8 INTERFACE ${ATTN8_CORE})
separate_arguments(ATTN8_WITHOUT UNIX_COMMAND "${WITHOUT}")
foreach(part IN LISTS ATTN8_WITHOUT)
    if(NOT part MATCHES "^(conv1d|attention|norm|add|pool|table|stream)$")
        message(FATAL_ERROR "WITHOUT: got ${part}, expected some of: conv1d attention norm add pool table stream")
    endif()
    string(TOUPPER ${part} part)
    target_compile_definitions(usermod_attn8 INTERFACE A8_WITHOUT_${part})
endforeach()
if(PORTABLE)
    target_compile_definitions(usermod_attn8 INTERFACE A8_PORTABLE)
endif()
target_link_libraries(usermod INTERFACE usermod_attn8)
