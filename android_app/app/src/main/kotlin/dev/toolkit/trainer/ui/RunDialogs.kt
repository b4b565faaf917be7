package dev.toolkit.trainer.ui

import android.app.AlertDialog
import android.widget.EditText
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.service.Notifications
import dev.toolkit.trainer.store.AppException

/** Asks for the new name of a run, and whether it is to be deleted; not while it is active. A screen with several of them tells [owner]s apart. */
class RunDialogs(private val screen: Screen, owner: String, private val renamed: (String) -> Unit, private val gone: () -> Unit) {
    private val app = TrainerApp.of(screen)

    private val rename = "${owner}_rename"
    private val delete = "${owner}_delete"

    init {
        screen.asks(rename) { askToRename(it) }
        screen.asks(delete) { askToDelete(it) }
    }

    private fun isActive(name: String) = app.controller.active?.name == name

    fun askToRename(name: String) {
        if (isActive(name)) {
            screen.tell(screen.getString(R.string.rename_active))
            return
        }
        val view = screen.layoutInflater.inflate(R.layout.rename, null)
        val field = view.requireViewById<EditText>(R.id.new_name).apply { setText(name) }
        val dialog = AlertDialog.Builder(screen).setTitle(R.string.rename_run).setView(view)
            .setNegativeButton(R.string.cancel, null).setPositiveButton(R.string.rename, null).show()
        // Set here and not above, where a tap closes the dialog whatever comes of it.
        dialog.getButton(AlertDialog.BUTTON_POSITIVE).setOnClickListener {
            val wanted = field.text.toString().trim()
            if (wanted == name) dialog.dismiss() else rename(name, wanted) { problem ->
                field.error = problem
                if (problem != null) return@rename
                dialog.dismiss()
                renamed(wanted)
            }
        }
        screen.keep(rename, name, dialog)
    }

    private fun rename(from: String, to: String, done: (String?) -> Unit) = screen.inBackground({
        try {
            if (isActive(from)) throw AppException(screen.getString(R.string.rename_active))
            app.runs.rename(from, to)
            Notifications(screen).cancelEnded(from)
            null
        } catch (error: AppException) {
            error.message.orEmpty()
        }
    }, done)

    fun askToDelete(name: String) {
        if (isActive(name)) {
            screen.tell(screen.getString(R.string.delete_active))
            return
        }
        screen.askToDelete(delete, name, screen.getString(R.string.delete_run_question, name)) {
            screen.inBackground({
                if (!isActive(name)) app.runs.delete(name)
                Notifications(screen).cancelEnded(name)
            }) { gone() }
        }
    }
}
