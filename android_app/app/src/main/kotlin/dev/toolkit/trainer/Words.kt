package dev.toolkit.trainer

import android.content.Context

/** What the app says, from its resources in the language of the phone, where there is no screen to ask for them. */
object Words {
    private lateinit var context: Context

    fun attach(application: Context) {
        context = application
    }

    fun of(id: Int, vararg values: Any): String = context.getString(id, *values)

    fun list(id: Int): List<String> = context.resources.getStringArray(id).toList()
}
